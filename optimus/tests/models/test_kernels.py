import multiprocessing

import pytest
import torch
import torch.distributed as dist
from torch.nn import functional as F

from optimus.models import kernels as cross_entropy
from optimus.models.kernels import gather_rows, linear_nll


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(cross_entropy, "_BLOCK", {"cpu": 7})
    monkeypatch.setattr(cross_entropy, "_ROWS", {"cpu": 4})


def problem(rows=11, width=6, vocabulary=30):
    hidden = torch.randn(rows, width, requires_grad=True)
    weight = torch.randn(vocabulary, width, requires_grad=True)
    return hidden, weight, torch.randint(0, vocabulary, (rows,))


def plain(hidden, weight, targets):
    return F.cross_entropy(hidden @ weight.t(), targets, reduction="none")


@pytest.mark.parametrize("keep", [1 << 30, 0], ids=["kept", "made again"])
def test_losses_and_gradients_equal_those_of_the_full_logits(keep, monkeypatch):
    monkeypatch.setattr(cross_entropy, "KEEP_BYTES", keep)
    hidden, weight, targets = problem()
    scale = torch.rand(len(targets))
    losses = linear_nll(hidden, weight, targets)
    gradients = torch.autograd.grad((losses * scale).sum(), (hidden, weight))
    expected = plain(hidden, weight, targets)
    references = torch.autograd.grad((expected * scale).sum(), (hidden, weight))
    torch.testing.assert_close(losses, expected)
    for gradient, reference in zip(gradients, references, strict=True):
        torch.testing.assert_close(gradient, reference)


def test_a_second_backward_pass_gives_the_same_gradient():
    hidden, weight, targets = problem()
    loss = linear_nll(hidden, weight, targets).sum()
    first = torch.autograd.grad(loss, hidden, retain_graph=True)[0]
    torch.testing.assert_close(torch.autograd.grad(loss, hidden)[0], first)


def test_without_gradients_rows_are_worked_on_in_chunks():
    hidden, weight, targets = problem()
    with torch.no_grad():
        torch.testing.assert_close(
            linear_nll(hidden, weight, targets), plain(hidden, weight, targets)
        )
        assert linear_nll(hidden[:0], weight, targets[:0]).shape == (0,)


def test_bfloat16_keeps_the_sum_over_the_vocabulary_in_float32():
    hidden, weight, targets = problem(vocabulary=5000)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = linear_nll(hidden, weight, targets)
    assert losses.dtype == torch.float32
    rounded = plain(hidden.bfloat16().float(), weight.bfloat16().float(), targets)
    torch.testing.assert_close(losses, rounded, rtol=0.01, atol=0.05)
    losses.sum().backward()
    assert hidden.grad.dtype == weight.grad.dtype == torch.float32


def test_large_logits_do_not_overflow():
    hidden, weight, targets = problem()
    losses = linear_nll(hidden * 1e3, weight, targets)
    torch.testing.assert_close(losses, plain(hidden * 1e3, weight, targets))


def loss(rows):
    return torch.cdist(rows, rows.detach() * 2).square().sum()


def worker(rank, folder):
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
    )
    rows = torch.arange(12.0).view(4, 3)[2 * rank : 2 * rank + 2].requires_grad_()
    every = gather_rows(rows)
    loss(every).backward()
    torch.save((every.detach(), rows.grad / 2), f"{folder}/{rank}.pt")  # DDP divides by 2
    dist.destroy_process_group()


def test_one_process_keeps_its_rows():
    rows = torch.randn(2, 3)
    assert gather_rows(rows) is rows


def test_two_processes_see_the_rows_and_the_gradient_of_one(tmp_path):
    fork = multiprocessing.get_context("fork")  # a new interpreter would take seconds to import
    workers = [fork.Process(target=worker, args=(rank, tmp_path)) for rank in (0, 1)]
    for each in workers:
        each.start()
    for each in workers:
        each.join(60)
        assert each.exitcode == 0
    whole = torch.arange(12.0).view(4, 3).requires_grad_()
    loss(whole).backward()
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    for every, _ in parts:
        assert torch.equal(every, whole.detach())
    torch.testing.assert_close(torch.cat([grad for _, grad in parts]), whole.grad)
