import torch
from factories import tiny_model

from optimus.tasks.training import OriginalAdamW, parameter_groups


def test_norms_and_biases_are_never_decayed_unless_asked_for():
    model = tiny_model()
    for compat in (False, True):
        decayed, spared = parameter_groups(model, 0.1, compat)
        assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
        names = {id(p): name for name, p in model.named_parameters()}
        found = {names[id(p)] for p in decayed["params"]}
        assert len(decayed["params"]) + len(spared["params"]) == len(names)
        assert not any("bias" in name or "LayerNorm" in name for name in found)
        assert any("ln_1.weight" in name for name in found) == compat


def test_the_original_adamw_stays_near_the_one_of_torch():
    runs = []
    for kind in (OriginalAdamW, torch.optim.AdamW):
        torch.manual_seed(0)
        weight = torch.nn.Parameter(torch.randn(6, 6))
        optimizer = kind([weight], lr=1e-2, weight_decay=0.01)
        for _ in range(10):
            optimizer.zero_grad()
            (weight @ torch.ones(6)).square().sum().backward()
            optimizer.step()
        runs.append(weight.detach())
    torch.testing.assert_close(*runs, rtol=1e-3, atol=1e-4)


def test_its_state_is_saved_and_restored():
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = OriginalAdamW([weight])
    weight.sum().backward()
    optimizer.step()
    other = OriginalAdamW([weight])
    other.load_state_dict(optimizer.state_dict())
    assert other.state[weight]["step"] == 1
    assert torch.equal(other.state[weight]["exp_avg"], optimizer.state[weight]["exp_avg"])
