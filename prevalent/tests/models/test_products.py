"""Products with weights that are laid out anew are products with the weights."""

import pytest
import torch
from torch import nn

from prevalent.models import kernels as products
from prevalent.models.kernels import AVAILABLE, WORTHWHILE, multiply


def agree(ours, inputs, matrix):
    wanted = (inputs.double() @ matrix.double()).float()
    torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-4)


def test_any_number_of_rows_is_multiplied_with_a_weight_or_its_transpose():
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(WORTHWHILE // 256, 256))
    for shape in ((1,), (7,), (40,), (2, 3)):
        rows, turned = torch.randn(*shape, 256), torch.randn(*shape, len(weight))
        with torch.no_grad():
            for _ in range(2):
                agree(multiply(rows, weight), rows, weight.t())
                agree(multiply(turned, weight, transposed=True), turned, weight)


def test_a_changed_weight_is_laid_out_again():
    weight, rows = nn.Parameter(torch.randn(WORTHWHILE // 256, 256)), torch.randn(3, 256)
    with torch.no_grad():
        for _ in range(3):
            agree(multiply(rows, weight), rows, weight.t())
            weight.add_(1.0)


@pytest.mark.parametrize("options", [{"fused": True}, {"foreach": True}])
def test_a_step_of_an_optimizer_is_seen(options):
    weight, rows = nn.Parameter(torch.randn(WORTHWHILE // 256, 256)), torch.randn(3, 256)
    optimizer = torch.optim.AdamW([weight], lr=1.0, **options)
    for _ in range(3):
        with torch.no_grad():
            agree(multiply(rows, weight), rows, weight.t())
        weight.grad = torch.ones_like(weight)
        optimizer.step()


def test_layouts_go_with_their_weights_and_small_weights_have_none():
    before = len(products._layouts)
    large, small = torch.randn(WORTHWHILE // 256, 256), torch.randn(8, 256)
    rows = torch.randn(3, 256)
    multiply(rows, large)
    multiply(rows, small)
    assert len(products._layouts) == before + (1 if AVAILABLE else 0)
    del large
    assert len(products._layouts) == before


def test_without_the_library_a_plain_product_is_made(monkeypatch):
    monkeypatch.setattr(products, "AVAILABLE", False)
    weight, rows = torch.randn(WORTHWHILE // 256, 256), torch.randn(3, 256)
    assert torch.equal(multiply(rows, weight), rows @ weight.t())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_stay_as_they_are(dtype):
    weight, rows = torch.randn(WORTHWHILE // 256, 256).to(dtype), torch.randn(3, 256).to(dtype)
    assert torch.equal(multiply(rows, weight), rows @ weight.t())
