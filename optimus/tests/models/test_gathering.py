import multiprocessing

import torch
import torch.distributed as dist

from optimus.models.gathering import gather_rows


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
