"""What is counted: kernels without views, casts, memory, and where the host would wait."""

import torch

from optimus.runtime.counting import count


def test_views_are_no_kernels_and_casts_are_counted():
    layer, inputs = torch.nn.Linear(4, 4), torch.randn(2, 4)

    def step():
        with torch.autocast("cpu", torch.bfloat16):
            layer(inputs.view(4, 2).t().reshape(2, 4))

    found = count(step)
    assert found.kernels["addmm"] == 1
    assert not {"view", "t"} & found.kernels.keys()
    assert found.casts == 3  # input, weight, bias


def test_what_a_deterministic_run_would_end_at_is_counted():
    images = torch.randn(1, 2, 4, 4, requires_grad=True)
    logits, labels = torch.randn(2, 3, 4), torch.zeros(2, 4, dtype=torch.long)
    padded = torch.nn.functional.pad
    for refused in (
        lambda: padded(images, (1, 1, 1, 1), "replicate").sum().backward(),
        lambda: torch.nn.functional.cross_entropy(logits, labels),
        lambda: logits.cumsum(dim=0),
        lambda: torch.bincount(labels[0], torch.ones(4)),
    ):
        assert count(refused).unrepeatable
    for fine in (
        lambda: padded(images, (1, 1, 1, 1)).sum().backward(),
        lambda: torch.nn.functional.cross_entropy(logits.mT.flatten(0, 1), labels.flatten()),
        lambda: labels.cumsum(dim=0),
        lambda: torch.bincount(labels[0]),
    ):
        assert not count(fine).unrepeatable


def test_what_the_host_has_to_wait_for_is_counted():
    values = torch.arange(4.0)
    for waiting in (
        lambda: values[values > 1],
        lambda: values.sum().item(),
        lambda: bool((values > 1).all()),
        lambda: (values > 1).nonzero(),
        lambda: values.cpu().numpy(),
    ):
        assert sum(count(waiting).waits.values()) == 1
    for free in (lambda: values + 1, lambda: values.index_select(0, torch.tensor([1]))):
        assert not count(free).waits
    assert not count(lambda: values.sum().item(), on_the_host=("elsewhere",)).waits


def test_new_memory_is_counted_until_it_is_freed():
    given = torch.zeros(1000)  # 4,000 bytes, as every tensor below

    def step():
        doubled = given * 2
        shown = (doubled + 1).view(10, 100)
        del doubled
        given.add_(1)
        return shown.t() + 1

    memory = count(step).memory
    assert memory.allocations == {"mul": 1, "add": 2}
    assert memory.allocated == 12_000
    assert memory.peak == 8000


def test_what_a_graph_holds_counts_until_the_backward_pass():
    weight = torch.zeros(1000, requires_grad=True)

    def step():
        weight.grad = None
        weight.exp().sigmoid().sum().backward()

    memory = count(step).memory
    assert memory.allocations["exp"] == memory.allocations["sigmoid_backward"] == 1
    assert 12_000 <= memory.peak < memory.allocated
    assert count(lambda: weight.exp().sigmoid()).memory.peak == 8000
