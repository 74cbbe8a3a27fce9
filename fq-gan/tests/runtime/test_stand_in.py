"""The stand-in of a CUDA device refuses what CUDA refuses, and nothing else."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from stand_in import WrongDevice, stand_in


@pytest.fixture(autouse=True)
def device():
    with stand_in():
        yield torch.device("cuda", 0)


def test_tensors_are_where_they_were_put(device):
    host, there = torch.zeros(3), torch.zeros(3, device="cuda")
    assert host.device.type == "cpu"
    for one in (there, there + 1, there[:2], torch.zeros_like(there), host.to(there), host.cuda()):
        assert one.device == device
        assert one.is_cuda
    for one in (there.cpu(), there.to("cpu"), host + 1, torch.zeros_like(there, device="cpu")):
        assert one.device.type == "cpu"
    assert host.device.type == "cpu"


def test_weights_move_and_their_gradients_are_where_they_are(device):
    layer = nn.Linear(2, 2).to(device)
    layer(torch.zeros(1, 2, device=device)).sum().backward()
    assert layer.weight.device == layer.weight.grad.device == device
    torch.optim.AdamW(layer.parameters(), fused=True).step()


@pytest.mark.parametrize(
    "refused",
    [
        lambda host, there: host + there,
        lambda host, there: torch.cat([there, host]),
        lambda host, there: there.index_select(0, torch.tensor([0])),
        lambda host, there: nn.Linear(3, 3)(there),
        lambda host, there: there.numpy(),
        lambda host, there: there.pin_memory(),
        lambda host, there: torch.randn(2, generator=torch.Generator("cuda")),
        lambda host, there: torch.rand(2, device="cuda", generator=torch.Generator()),
        lambda host, there: there.normal_(generator=torch.Generator()),
    ],
)
def test_what_cuda_refuses_is_refused(refused):
    with pytest.raises(WrongDevice):
        refused(torch.zeros(3), torch.zeros(3, device="cuda"))


@pytest.mark.parametrize(
    "allowed",
    [
        lambda host, there: there + torch.tensor(2.0),
        lambda host, there: there[torch.tensor([0, 2])],
        lambda host, there: there.copy_(host),
        lambda host, there: there.tolist(),
        lambda host, there: host.pin_memory().to(there.device, non_blocking=True) + there,
        lambda host, there: torch.rand(2, device="cuda", generator=torch.Generator("cuda")),
        lambda host, there: nn.utils.rnn.pack_padded_sequence(
            there.view(1, 3, 1), torch.tensor([3]), batch_first=True
        ),
    ],
)
def test_what_cuda_does_is_done(allowed):
    allowed(torch.zeros(3), torch.zeros(3, device="cuda"))


def test_copies_that_the_host_waits_for_are_noted():
    with stand_in() as mode:
        there = torch.zeros(3, device="cuda")
        torch.zeros(3).to("cuda", non_blocking=True)
        assert not mode.waits
        for waiting in (
            lambda: torch.zeros(3).to("cuda"),
            lambda: torch.tensor([1.0], device="cuda"),
            lambda: there.cpu(),
            lambda: there.sum().item(),
        ):
            waiting()
        assert sum(mode.waits.values()) == 4
