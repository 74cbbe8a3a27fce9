"""How a CUDA device computes with fp32 numbers: the one place that decides it.

Products, convolutions and recurrent layers of networks in training may round fp32 inputs to TF32
(10 bits of mantissa); what must not stands inside `ieee_fp32`. On a CPU nothing changes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

Arithmetic = tuple[str, str, str]


def set_numerics(*, deterministic: bool = False) -> None:
    """Allow TF32 in training and let cuDNN try its algorithms, or, deterministic, do neither.

    Deterministic runs repeat to the bit on the same device: IEEE fp32, no search for the fastest
    convolution, and an error where an operation has no deterministic form.
    """
    _set("ieee" if deterministic else "tf32")
    torch.backends.cudnn.benchmark = not deterministic
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)


@contextmanager
def ieee_fp32() -> Iterator[None]:
    """IEEE arithmetic for fp32 inside: features of scores, penalties, distances, bounds."""
    before = arithmetic()
    _set("ieee")
    try:
        yield
    finally:
        _set(*before)


def arithmetic() -> Arithmetic:
    """What fp32 products, convolutions and recurrent layers compute in: ``ieee`` or ``tf32``."""
    matmul, conv, rnn = _switches()
    return matmul.fp32_precision, conv.fp32_precision, rnn.fp32_precision


def _set(products: str, convolutions: str | None = None, recurrent: str | None = None) -> None:
    for switch, value in zip(_switches(), (products, convolutions, recurrent), strict=True):
        switch.fp32_precision = value or products


def _switches() -> tuple[Any, Any, Any]:
    cudnn: Any = torch.backends.cudnn
    return torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn
