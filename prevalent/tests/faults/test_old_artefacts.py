"""What the authors' code wrote is read whole: every tensor reported, none missing or unexpected."""

from argparse import Namespace

import pytest
import torch

from prevalent.config import TINY_MODEL
from prevalent.convert import main
from prevalent.models.prevalent import PrevalentForPretraining
from prevalent.released.checkpoints import TIED, load_model, read_weights, save_authors_folder
from prevalent.released.snapshots import load_weights, read_snapshot, write_snapshot
from prevalent.tasks.hanna import load_weights as load_hanna
from tests.recorded_agents import as_tensors, number_of_heads
from tests.recorded_hanna import MODULES, RecordedSearches, search_cases
from tests.recorded_ndh import read_case
from tests.small_agents import make_follower, make_speaker
from tests.small_hanna import make_agent


def same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=0, atol=0, msg=name)


def check_report(text, names):
    """Every tensor has a line, and the totals say that all fit."""
    listed = [line.split()[0] for line in text.splitlines() if line.startswith("  ")]
    assert sorted(listed) == sorted(names)
    assert f"{len(listed)} tensors fit, 0 missing, 0 unexpected" in text


@pytest.mark.golden
def test_released_folders_are_converted_with_a_report_of_every_tensor(golden, tmp_path, capsys):
    folders = [path.parent for path in sorted((golden / "models").glob("*/pytorch_model.bin"))]
    if not folders:
        pytest.skip("this golden folder has no checkpoint folder")
    for folder in folders:
        main([str(folder), str(tmp_path / folder.name)])
        check_report(capsys.readouterr().out, read_weights(folder / "pytorch_model.bin"))
        same(load_model(tmp_path / folder.name).state_dict(), load_model(folder).state_dict())


@pytest.mark.golden
def test_recorded_snapshots_go_there_and_back_with_a_report_of_every_tensor(
    golden, tmp_path, capsys
):
    files = [path for path in sorted((golden / "rollout").glob("snapshot_*")) if path.is_file()]
    if not files:
        pytest.skip("this golden folder has no snapshot file")
    for file in files:
        parts = read_snapshot(file)
        main([str(file), str(tmp_path / file.name)])
        names = [f"{name}.{key}" for name, part in parts.items() for key in part.state]
        check_report(capsys.readouterr().out, names)
        back = tmp_path / f"{file.name}.back"
        main([str(tmp_path / file.name), str(back), "--to", "authors"])
        assert f"{len(names)} tensors written" in capsys.readouterr().out
        again = read_snapshot(back)
        assert again.keys() == parts.keys()
        for name, part in parts.items():
            same(again[name].state, part.state)


@pytest.mark.golden
def test_recorded_agents_of_dialogs_are_converted_with_a_report_of_every_tensor(
    golden, tmp_path, capsys
):
    case, arrays = read_case(golden, "ndh_agent")
    states = {part: as_tensors(arrays, f"{part}/") for part in ("enc", "dec")}
    for part, state in states.items():
        torch.save(
            state, tmp_path / f"run_{part}_iter_9", _use_new_zipfile_serialization=part == "enc"
        )
    angle_size = arrays["dec/lstm.weight_ih"].shape[1] // 2 - case["feature_dim"]
    words = ["--agent.num-heads", str(number_of_heads(golden))]
    words += ["--agent.angle-size", str(angle_size)]
    main([str(tmp_path / "run_enc_iter_9"), str(tmp_path / "run"), *words])
    whole = {"enc": "encoder", "dec": "decoder"}
    names = [f"{whole[part]}.{key}" for part, state in states.items() for key in state]
    check_report(capsys.readouterr().out, names)
    main([str(tmp_path / "run"), str(tmp_path / "back_enc_iter_9"), "--to", "authors"])
    for part, state in states.items():
        same(read_weights(tmp_path / f"back_{part}_iter_9"), state)


def checkpoint_of_hanna(path, state):
    """A file with all that their code puts into one."""
    content = {"hparams": Namespace(lr=1e-4, device_id=0, load_path=None), "iter": 7}
    content |= {"model_state_dict": state, "optim_state_dict": {"state": {}, "param_groups": []}}
    content |= {"best_metrics": {"val_seen": 0.5}, "data_idx": 3, "vocab": ["<PAD>", "<UNK>"]}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    return path


@pytest.mark.golden
def test_recorded_agents_of_hanna_are_loaded_whole(golden, data_dir, real_graphs, tmp_path, caplog):
    caplog.set_level("INFO")
    for path in search_cases(golden):
        recorded = RecordedSearches.load(path, real_graphs, data_dir)
        for variant in recorded.variants()[:1]:
            agent, weights = recorded.agent(variant), recorded.weights(variant)
            for module in agent.modules.values():
                for value in module.parameters():
                    torch.nn.init.zeros_(value)
            file = checkpoint_of_hanna(tmp_path / f"{recorded.name}_last.ckpt", weights)
            load_hanna(file, agent.modules)
            ours = {
                f"{n}.{k}": v for n in MODULES for k, v in agent.modules[n].state_dict().items()
            }
            same(ours, weights)
            for name in MODULES:
                count = sum(key.startswith(f"{name}.") for key in weights)
                assert f"{file}: all {count} tensors of its {name} fit, 0 missing" in caplog.text


def test_a_checkpoint_of_hanna_that_does_not_fit_is_refused_whole(tmp_path):
    agent, before = make_agent(), make_agent()
    other = {
        f"{name}.{key}": value
        for name, module in make_agent(seed=5).modules.items()
        for key, value in module.state_dict().items()
    }
    last = list(other)[-1]
    for state, sentence in (
        ({**other, "critic.weight": torch.ones(2)}, "has critic.weight, this agent consists of"),
        ({key: value for key, value in other.items() if key != last}, "lacks"),
        ({**other, last: torch.ones(2, 3, 5)}, "instead of"),
    ):
        file = checkpoint_of_hanna(tmp_path / "a_last.ckpt", state)
        with pytest.raises(ValueError, match=sentence):
            load_hanna(file, agent.modules)
        for name, module in agent.modules.items():
            same(module.state_dict(), before.modules[name].state_dict())
    torch.save({"weights": other}, tmp_path / "a_last.ckpt")
    with pytest.raises(ValueError, match="no model_state_dict"):
        load_hanna(tmp_path / "a_last.ckpt", agent.modules)


@pytest.mark.parametrize("container", ["legacy", "zip"])
@pytest.mark.parametrize("encoder", ["lstm", "dic", "bert", "speaker"])
def test_snapshots_of_either_container_and_of_several_gpus_load_whole(
    tmp_path, caplog, encoder, container
):
    caplog.set_level("INFO")
    make = make_speaker if encoder == "speaker" else lambda: make_follower(encoder)
    kind = "speaker" if encoder == "speaker" else "r2r"
    one, two = make(), make()
    for module in one.modules.values():
        for value in module.parameters():
            torch.nn.init.normal_(value)
    write_snapshot(tmp_path / "snap", one.modules, one.optimizers, 40)
    content = torch.load(tmp_path / "snap", weights_only=True)
    for part in content.values():  # as DataParallel names them
        part["state_dict"] = {f"module.{key}": value for key, value in part["state_dict"].items()}
    torch.save(content, tmp_path / "snap", _use_new_zipfile_serialization=container == "zip")
    load_weights(tmp_path / "snap", kind, two.modules)
    for name, module in one.modules.items():
        same(two.modules[name].state_dict(), module.state_dict())
        count = len(module.state_dict())
        assert f"all {count} tensors of its {name} fit, 0 missing, 0 unexpected" in caplog.text


@pytest.mark.parametrize("age", ["released", "gamma and beta", "untied", "data parallel"])
def test_folders_of_every_age_are_loaded_whole(tmp_path, caplog, age):
    caplog.set_level("INFO")
    model = PrevalentForPretraining(TINY_MODEL)
    save_authors_folder(tmp_path, model)
    state = read_weights(tmp_path / "pytorch_model.bin")
    if age == "gamma and beta":
        state = {
            key.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
                "LayerNorm.bias", "LayerNorm.beta"
            ): value
            for key, value in state.items()
        }
        assert any(key.endswith(".gamma") for key in state)
    elif age == "untied":
        del state[TIED]
    elif age == "data parallel":
        state = {f"module.{key}": value for key, value in state.items()}
    torch.save(state, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    same(load_model(tmp_path).state_dict(), model.state_dict())
    assert f"all {len(model.state_dict())} tensors fit, 0 missing, 0 unexpected" in caplog.text
