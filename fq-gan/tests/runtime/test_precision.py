"""Every precision either runs or stops in one sentence."""

import sys
import types

import pytest
import torch

from fqgan.runtime import precision
from fqgan.runtime.precision import (
    MixedPrecision,
    arithmetic,
    build_adamw,
    check_finite,
    choose_precision,
    clear_gradients,
    find_apex,
    has_gradients,
    ieee_fp32,
    no_grad_beside_grad,
    set_numerics,
)


def fake_apex(monkeypatch, **attributes):
    """Install a package named apex with a module amp that has ``attributes``."""
    package, amp = types.ModuleType("apex"), types.ModuleType("apex.amp")
    package.__path__ = []
    amp.__spec__ = types.SimpleNamespace(name="apex.amp")
    vars(amp).update(attributes)
    monkeypatch.setitem(sys.modules, "apex", package)
    monkeypatch.setitem(sys.modules, "apex.amp", amp)
    monkeypatch.setattr(precision.importlib.util, "find_spec", lambda name: name)


@pytest.mark.parametrize("name", ["fp32", "bf16", "fp16"])
def test_a_step_lowers_the_loss(name):
    torch.manual_seed(0)
    model = torch.nn.Linear(8, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    mixed = MixedPrecision(name, "cpu")
    model, optimizer = mixed.prepare(model, optimizer)
    inputs, losses = torch.randn(32, 8), []
    for _ in range(10):
        optimizer.zero_grad()
        with mixed.autocast():
            loss = (model(inputs).float() - inputs[:, :1]).square().mean()
        mixed.backward(loss, optimizer)
        norm = mixed.step(optimizer, model.parameters(), max_norm=10.0)
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert norm is not None
    assert norm.item() > 0


def test_clipping_returns_the_norm_before_it():
    weight = torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    mixed = MixedPrecision("fp32", "cpu")
    mixed.backward((weight * torch.tensor([3.0, 4.0])).sum(), optimizer)
    assert mixed.step(optimizer, [weight], max_norm=1.0).item() == pytest.approx(5)
    assert weight.detach().norm().item() == pytest.approx(1, rel=1e-4)


def test_apex_that_is_missing_is_one_sentence(monkeypatch):
    monkeypatch.setattr(precision.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="--precision apex-O1 needs NVIDIA apex with amp"):
        MixedPrecision("apex-O1", "cpu")


def test_another_package_named_apex_does_not_count(monkeypatch):
    fake_apex(monkeypatch, RoutesMixin=object)
    assert find_apex("amp") is None


def test_a_real_apex_is_asked_for_its_level(monkeypatch):
    asked = {}

    def initialize(models, optimizers, opt_level, verbosity):
        asked["level"] = opt_level
        return models, optimizers

    fake_apex(monkeypatch, initialize=initialize)
    assert MixedPrecision("apex-O2", "cpu").prepare("model", "optimizer") == ("model", "optimizer")
    assert asked == {"level": "O2"}


@pytest.mark.parametrize("kind", ["torch", "fused"])
def test_both_optimizers_take_the_same_step(kind):
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = build_adamw([weight], kind=kind, lr=0.1)
    weight.sum().backward()
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.full((3,), 0.9))


def test_a_value_that_is_not_finite_is_named():
    check_finite(3, loss=1.0, norm=None)
    with pytest.raises(FloatingPointError, match="kl is not finite at step 3"):
        check_finite(3, loss=torch.tensor(1.0), kl=torch.tensor(float("nan")))


class StrictFusedAdam(torch.optim.AdamW):
    """Takes what apex's FusedAdam takes: its zero_grad has no arguments."""

    def zero_grad(self):
        raise AssertionError("the loops clear gradients themselves")


def test_gradients_are_cleared_without_the_optimizers_own_way():
    model = torch.nn.Linear(2, 1)
    optimizer = StrictFusedAdam(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    assert has_gradients(optimizer)
    clear_gradients(optimizer)
    assert not has_gradients(optimizer)
    assert model.weight.grad is None


def test_a_step_without_any_gradient_is_left_out_under_loss_scaling():
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    amp = MixedPrecision("fp16", "cpu")
    before = model.weight.clone()
    assert amp.step(optimizer, model.parameters(), 1.0) is None
    assert torch.equal(model.weight, before)
    amp.backward(model(torch.ones(1, 2)).sum(), optimizer)
    amp.step(optimizer)
    assert not torch.equal(model.weight, before)


def test_auto_is_bf16_where_the_device_has_it(monkeypatch):
    assert choose_precision("auto", "cpu") == "fp32"
    assert choose_precision("fp16", "cuda") == "fp16"
    for has, chosen in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda has=has, **_: has)
        assert choose_precision("auto", "cuda:1") == chosen
    assert MixedPrecision("auto", "cpu").precision == "fp32"


def test_copies_made_without_gradient_are_not_kept_in_a_region():
    layer = torch.nn.Linear(2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        with no_grad_beside_grad("cpu"):
            assert not torch.is_autocast_cache_enabled()
            assert torch.is_autocast_enabled("cpu")
            assert not layer(torch.ones(1, 2)).requires_grad
        assert torch.is_autocast_cache_enabled()
        assert layer(torch.ones(1, 2)).requires_grad


@pytest.fixture(autouse=True)
def _restored():
    before = arithmetic(), torch.backends.cudnn.benchmark
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = before[1]
    torch.backends.cuda.matmul.fp32_precision = before[0][0]
    torch.backends.cudnn.conv.fp32_precision = before[0][1]
    torch.backends.cudnn.rnn.fp32_precision = before[0][2]


def test_training_may_use_tf32_and_an_island_may_not():
    set_numerics()
    assert arithmetic() == ("tf32", "tf32", "tf32")
    with ieee_fp32():
        assert arithmetic() == ("ieee", "ieee", "ieee")
        with ieee_fp32():
            pass
        assert arithmetic() == ("ieee", "ieee", "ieee")
    assert arithmetic() == ("tf32", "tf32", "tf32")


def test_an_island_that_fails_gives_back_what_was_set():
    set_numerics()
    with pytest.raises(KeyError), ieee_fp32():
        raise KeyError
    assert arithmetic() == ("tf32", "tf32", "tf32")


def test_a_deterministic_run_is_ieee_and_searches_no_algorithms():
    set_numerics(deterministic=True)
    assert arithmetic() == ("ieee", "ieee", "ieee")
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.benchmark
