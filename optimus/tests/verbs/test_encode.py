"""Latents on disk are those of the model, survive a kill, and are refused where they are none."""

import sys
import tracemalloc

import numpy as np
import pytest
from factories import tiny_vae

from optimus.data.columns import Item
from optimus.data.latents import join_chunks, load_latents, pack_chunk, text_hash
from optimus.data.toy import toy_sentences
from optimus.verbs import chunks, encode as verb
from optimus.verbs.encode import EncodeConfig, encode

LINES = toy_sentences(40)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny_vae(LINES).save_pretrained(folder)
    return folder


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("\n".join([*LINES[:5], "", *LINES[5:]]) + "\n")
    return path


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(chunks.Chunks.work, "__defaults__", (7,))


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".parquet"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_latents_are_those_of_the_model(model, text, tmp_path, small_chunks, suffix, dtype):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
    output = tmp_path / f"latents{suffix}"
    assert encode(EncodeConfig(text, output, model=model, dtype=dtype)) == len(LINES)
    found = load_latents(output)
    vae = tiny_vae(LINES)
    expected = vae.posterior(LINES)
    assert found.ids.tolist() == [*range(5), *range(6, 41)], "a blank line keeps its number"
    assert found.hashes.tolist() == [text_hash(line) for line in LINES]
    assert found.mean.dtype == dtype
    tolerance = {"float32": 1e-5, "float16": 2e-3}[dtype]
    np.testing.assert_allclose(found.mean, expected.mean, atol=tolerance, rtol=tolerance)
    np.testing.assert_allclose(found.logvar, expected.logvar, atol=tolerance, rtol=tolerance)
    assert found.about["blank"] == 1
    assert found.about["file"] == str(text)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([output.name, text.name])


def test_what_was_done_before_a_fault_is_not_done_again(
    model, text, tmp_path, small_chunks, monkeypatch
):
    output = tmp_path / "latents.npz"
    config = EncodeConfig(text, output, model=model)
    pack, calls = verb.pack_chunk, []

    def counting(ids, *rest):
        calls.append(ids)
        if len(calls) == 4:
            raise OSError("the disk is full")
        return pack(ids, *rest)

    monkeypatch.setattr(verb, "pack_chunk", counting)
    with pytest.raises(OSError, match="the disk is full"):
        encode(config)
    assert not output.exists()
    encode(config)
    assert [ids[0] for ids in calls] == [0, 8, 15, 22, 22, 29, 36]
    whole = tmp_path / "whole.npz"
    encode(EncodeConfig(text, whole, model=model))
    assert whole.read_bytes() == output.read_bytes()


def test_another_file_or_option_begins_anew(model, text, tmp_path, small_chunks, monkeypatch):
    output = tmp_path / "latents.safetensors"
    monkeypatch.setattr(chunks.Chunks, "finish", lambda *_: 0)
    encode(EncodeConfig(text, output, model=model))
    monkeypatch.undo()
    text.write_text("\n".join(reversed(LINES)))
    encode(EncodeConfig(text, output, model=model, dtype="float16"))
    found = load_latents(output)
    assert found.hashes.tolist() == [text_hash(line) for line in reversed(LINES)]


def test_memory_does_not_grow_with_the_file(tmp_path):
    size, number, width = 500, 24, 64

    def make(items, first):
        zeros = np.zeros((len(items), width), np.float32)
        return pack_chunk([item.id for item in items], ["a"] * len(items), zeros, zeros)

    for suffix in (".npz", ".safetensors"):
        tracemalloc.start()
        with chunks.Chunks(tmp_path / f"a{suffix}", {}) as work:
            work.work((Item(i, "a") for i in range(size * number)), make, size)
            work.finish(lambda paths, target: join_chunks(paths, target, {}))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(load_latents(tmp_path / f"a{suffix}").ids) == size * number
        assert peak < size * number * width * 4, "less than the means alone"


def test_a_model_without_latents_and_other_outputs_are_refused(text, tmp_path, model, fails):
    there = tmp_path / "there.npz"
    there.write_text("mine")
    for words, message in (
        ((text, "--output", tmp_path / "a.txt"), "must end in one of .npz, .safetensors, .parquet"),
        ((text, "--output", there), "exists; move it away or give another name"),
        ((tmp_path / "no.txt", "--output", tmp_path / "a.npz"), "no.txt does not exist"),
        ((text, "--output", tmp_path / "a.npz", "--run-dir", tmp_path / "no"), "no does not exist"),
    ):
        assert message in fails("encode", "--run-dir", model, *words)
    assert there.read_text() == "mine"
    (tmp_path / "blank.txt").write_text("\n\n")
    blank = (tmp_path / "blank.txt", "--output", tmp_path / "a.npz", "--model", model)
    assert "blank.txt holds no sentence" in fails("encode", *blank)
    assert not (tmp_path / "a.npz.partial").exists()


def test_two_commands_do_not_write_one_file(model, text, tmp_path):
    config = EncodeConfig(text, tmp_path / "a.npz", model=model)
    with (
        chunks.Chunks(config.output, {}),
        pytest.raises(ValueError, match=r"another command is writing .*a\.npz"),
    ):
        encode(config)


def test_files_that_hold_no_latents_are_named(tmp_path):
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    (tmp_path / "damaged.safetensors").write_bytes(b"\x08")
    np.savez(tmp_path / "code.npz", ids=np.array([print], dtype=object))
    for name in ("other.npz", "damaged.safetensors", "code.npz"):
        with pytest.raises(ValueError, match=f"{name} holds no latents"):
            load_latents(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="optimus encode"):
        load_latents(tmp_path / "none.npz")


def test_parquet_without_its_package_is_a_sentence(text, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"pip install 'optimus-vae\[parquet\]'"):
        encode(EncodeConfig(text, tmp_path / "a.parquet"))
