"""In what precision a run computes: autocast with gradient scaling, or apex; TF32 or IEEE fp32.

Products, convolutions and recurrent layers in training may round fp32 inputs to TF32 (10 bits of
mantissa) on a device that has it; what must not stands inside `ieee_fp32`.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal

import torch
from torch import Tensor

Precision = Literal["auto", "fp32", "bf16", "fp16", "apex-O1", "apex-O2"]
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose_precision(precision: Precision, device: torch.device | str) -> Precision:
    """``precision``; for ``auto`` bf16 on a device that computes in it, and fp32 elsewhere.

    A CPU counts as one that does not: few of them are faster in bf16.
    """
    if precision != "auto":
        return precision
    on_device = torch.device(device).type == "cuda"
    native = on_device and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if native else "fp32"


def find_apex(part: str) -> Any | None:
    """NVIDIA apex's module ``part`` (``amp``, ``optimizers``), or None.

    NVIDIA removed ``apex.amp`` in 2025, and an unrelated package has the name ``apex`` too, so
    only a successful import of the part itself counts.
    """
    try:
        if importlib.util.find_spec(f"apex.{part}") is None:
            return None
        module = importlib.import_module(f"apex.{part}")
    except Exception:  # an unrelated or broken `apex` may raise anything at import
        return None
    wanted = {"amp": "initialize", "optimizers": "FusedAdam"}[part]
    return module if hasattr(module, wanted) else None


class MixedPrecision:
    """One way to write a step in every precision.

    Args:
        precision: ``fp32``, ``bf16``, ``fp16`` (with loss scaling), ``apex-O1`` or ``apex-O2``;
            ``auto`` leaves the choice to `choose_precision`.
        device: where the model is.

    Raises:
        ValueError: an ``apex`` precision is asked for and there is no apex with ``amp``.
    """

    def __init__(self, precision: Precision, device: torch.device | str) -> None:
        self.device = torch.device(device)
        self.precision = precision = choose_precision(precision, self.device)
        self.amp = None
        if precision.startswith("apex"):
            self.amp = find_apex("amp")
            if self.amp is None:
                raise ValueError(
                    f"--precision {precision} needs NVIDIA apex with amp, which is not installed "
                    "(it was removed from apex in 2025); use --precision bf16 or fp16"
                )
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "fp16")

    def prepare(self, models: Any, optimizers: Any) -> tuple[Any, Any]:
        """To be called once, before DistributedDataParallel; only apex changes anything here."""
        if self.amp is None:
            return models, optimizers
        return self.amp.initialize(models, optimizers, opt_level=self.precision[-2:], verbosity=0)

    def autocast(self) -> AbstractContextManager[Any]:
        dtype = DTYPES.get(self.precision, torch.bfloat16)
        return torch.autocast(self.device.type, dtype=dtype, enabled=self.precision in DTYPES)

    def backward(self, loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
        if self.amp is None:
            self.scaler.scale(loss).backward()
        else:
            with self.amp.scale_loss(loss, optimizer) as scaled:
                scaled.backward()

    def step(
        self,
        optimizer: torch.optim.Optimizer,
        parameters: Iterable[Tensor] | None = None,
        max_norm: float | None = None,
    ) -> Tensor | None:
        """Clip the gradients of ``parameters`` to ``max_norm``, if given, and step.

        Returns the norm before clipping, a scalar tensor on the device (no synchronisation), or
        None where nothing is clipped or nothing has a gradient.
        """
        norm = None
        if self.amp is None and not has_gradients(optimizer):
            return norm
        if max_norm is not None and parameters is not None:
            self.scaler.unscale_(optimizer)
            clipped = parameters if self.amp is None else self.amp.master_params(optimizer)
            norm = torch.nn.utils.clip_grad_norm_(clipped, max_norm)
            norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm  # of all shares
        self.scaler.step(optimizer)
        self.scaler.update()
        return norm

    def state_dict(self) -> dict[str, Any]:
        return self.scaler.state_dict() if self.amp is None else self.amp.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        (self.scaler if self.amp is None else self.amp).load_state_dict(state)


@contextmanager
def no_grad_beside_grad(device: torch.device | str) -> Iterator[None]:
    """``torch.no_grad`` for weights that learn in the same autocast region.

    Up to torch 2.10 a region keeps the half-precision copy of a weight that was made without
    gradient, and the weight gets none from what follows. Here no copies are kept.
    """
    kind = torch.device(device).type
    enabled, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
    with torch.no_grad(), torch.autocast(kind, dtype, enabled, cache_enabled=False):
        yield


def has_gradients(optimizer: torch.optim.Optimizer) -> bool:
    """Whether any parameter of ``optimizer`` has one; a GradScaler refuses a step without any."""
    return any(one.grad is not None for group in optimizer.param_groups for one in group["params"])


def clear_gradients(optimizer: torch.optim.Optimizer) -> None:
    """Forget the gradients; apex's optimizers do not take ``zero_grad(set_to_none=True)``."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None


def build_adamw(
    parameters: Any, *, kind: Literal["torch", "fused"] = "torch", **options: Any
) -> torch.optim.Optimizer:
    """AdamW; ``fused`` takes apex's FusedAdam where its kernels are installed, else torch's.

    On a CUDA device torch's own is the fused one for both kinds.
    """
    options = {"weight_decay": 0.0, **options}
    parameters = list(parameters)
    if kind == "torch":
        fused = True if _on_cuda(parameters) else None
        return torch.optim.AdamW(parameters, fused=fused, **options)
    apex = find_apex("optimizers") if importlib.util.find_spec("amp_C") else None
    if apex is not None:
        return apex.FusedAdam(parameters, adam_w_mode=True, **options)
    return torch.optim.AdamW(parameters, fused=True, **options)


def _on_cuda(parameters: list[Any]) -> bool:
    """Whether all of ``parameters``, or of these groups of parameters, are on a CUDA device."""
    groups = [one["params"] if isinstance(one, dict) else [one] for one in parameters]
    flat = [parameter for group in groups for parameter in group]
    return bool(flat) and all(parameter.is_cuda for parameter in flat)


def check_finite(step: int, **values: Tensor | float | None) -> None:
    """Raise ``FloatingPointError`` naming the first of ``values`` that is NaN or infinite."""
    for name, value in values.items():
        if value is not None and not torch.isfinite(torch.as_tensor(value)).all():
            raise FloatingPointError(
                f"{name} is not finite at step {step}; earlier checkpoints are kept: lower the "
                "learning rate or use a safer --precision and run the same command again"
            )


def check_weights(step: int, modules: Mapping[str, Any]) -> None:
    """Raise ``FloatingPointError`` naming the first of ``modules`` with a broken weight.

    A loss can be finite in the step whose gradient is not; asked before a save, this keeps such
    weights out of every checkpoint. What is no module is passed over.
    """
    for name, module in modules.items():
        if isinstance(module, torch.nn.Module):
            norms = torch._foreach_norm([one.detach() for one in module.parameters()], math.inf)
            check_finite(step, **{f"a weight of {name}": torch.stack(list(norms))})


def norm_to_check(norm: Tensor | None, precision: Precision) -> Tensor | None:
    """The gradient's norm, or None where an infinite one is harmless.

    Loss scaling (fp16, apex) leaves such a step out by itself; else the weights are broken by it,
    which the loss shows only a step later.
    """
    return norm if precision in ("fp32", "bf16") else None


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


def safe_sqrt(squares: Tensor) -> Tensor:
    """Square root with gradient 0 at 0, where that of ``sqrt`` is infinite, and times 0 NaN."""
    zero = squares == 0
    return torch.where(zero, 1.0, squares).sqrt() * ~zero
