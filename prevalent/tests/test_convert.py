import pytest
import torch

from prevalent.config import TINY_MODEL
from prevalent.convert import main
from prevalent.models.prevalent import PrevalentForPretraining
from prevalent.released.checkpoints import load_model, save_authors_folder, save_model


def assert_same(ours, theirs):
    ours, theirs = ours.state_dict(), theirs.state_dict()
    assert list(ours) == list(theirs)
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=0)


def test_there_and_back_changes_nothing(tmp_path):
    model = PrevalentForPretraining(TINY_MODEL)
    save_model(tmp_path / "a", model)
    (tmp_path / "a/vocab.txt").write_text("[PAD]\n")
    main([str(tmp_path / "a"), str(tmp_path / "b"), "--to", "authors", "--quiet"])
    main([str(tmp_path / "b"), str(tmp_path / "c"), "--quiet"])
    assert_same(load_model(tmp_path / "c"), model)
    assert load_model(tmp_path / "b").config == TINY_MODEL
    assert (tmp_path / "c/vocab.txt").exists()


def test_every_tensor_that_does_not_fit_is_reported(tmp_path, capsys):
    folder = tmp_path / "a"
    save_authors_folder(folder, PrevalentForPretraining(TINY_MODEL))
    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    del state["bert.pooler.dense.bias"]
    state["bert.extra"] = torch.zeros(2)
    state["next_action.linear.bias"] = torch.zeros(5)
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"1 missing tensors, first bert\.pooler\.dense\.bias"):
        main([str(folder), str(tmp_path / "b")])
    printed = capsys.readouterr().out
    assert "missing: bert.pooler.dense.bias" in printed
    assert "unexpected: bert.extra" in printed
    assert "wrong_shape: next_action.linear.bias: (5,) instead of (36,)" in printed
    assert not (tmp_path / "b").exists()


def test_a_destination_with_weights_is_refused(tmp_path):
    save_model(tmp_path, PrevalentForPretraining(TINY_MODEL))
    with pytest.raises(ValueError, match=r"already holds model\.safetensors"):
        main([str(tmp_path), str(tmp_path)])


def test_a_folder_without_weights_says_what_is_wanted(tmp_path):
    with pytest.raises(FileNotFoundError, match="released checkpoint folder"):
        main([str(tmp_path), str(tmp_path / "out")])
