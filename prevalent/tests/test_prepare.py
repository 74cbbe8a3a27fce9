"""Data sets are prepared once, and what is missing is named."""

import json
import shutil

import pytest

from prevalent.__main__ import VERBS, main as command
from prevalent.data.triplets import read_triplets
from prevalent.prepare import WORK, PrepareConfig, main, prepare_hanna
from tests.factories import make_scan, write_connectivity

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "go", "to", "the", "door", "."]


@pytest.fixture
def world(tmp_path):
    write_connectivity(tmp_path / "connectivity", "house", make_scan())
    item = {"path_id": 1, "scan": "house", "heading": 0.0, "path": ["a", "b", "c"]}
    (tmp_path / "r2r").mkdir()
    (tmp_path / "r2r" / "R2R_train.json").write_text(
        json.dumps([item | {"instructions": ["Go to the door."]}])
    )
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    return tmp_path


def test_triplets_are_made_from_paths_once(world, capsys):
    command = ["triplets", "--data-dir", str(world), "--vocabulary", str(world / "vocab.txt")]
    main(command)
    path = world / "triplets" / "shortest_train.json"
    table = read_triplets([path])
    assert len(table) == 3  # two steps and a stop
    words = [WORDS[i] for i in table.tokens[0] if i]
    assert words == ["[CLS]", "go", "to", "the", "door", ".", "[SEP]"]
    written = path.stat().st_mtime_ns
    main(command)
    assert path.stat().st_mtime_ns == written
    assert str(path) in capsys.readouterr().out


def test_what_is_there_is_listed(world, capsys):
    main(["list", "--data-dir", str(world)])
    assert "r2r/R2R_train.json: 1 records" in capsys.readouterr().out


@pytest.mark.parametrize("argv", [[], ["r2d2"]])
def test_an_unknown_name_lists_the_known_ones(argv):
    with pytest.raises(ValueError, match="r2r, r4r, rxr, reverie, soon, ndh, hanna"):
        main(argv)


def test_images_need_a_network(tmp_path):
    with pytest.raises(ValueError, match="--skyboxes and --network go together"):
        PrepareConfig(skyboxes=tmp_path)


def test_a_network_folder_without_a_network_is_named(world):
    options = ["--data-dir", str(world), "--skyboxes", str(world), "--resnet", str(world)]
    with pytest.raises(FileNotFoundError, match=r"holds no config\.json"):
        main(["features", *options])


def test_hannas_files_are_read_when_they_are_there(toy_world, tmp_path):
    assert prepare_hanna(PrepareConfig(data_dir=toy_world)) == toy_world / "hanna"
    shutil.copytree(toy_world / "hanna", tmp_path / "hanna")
    (tmp_path / "hanna/hanna_test_unseen.json").write_text('[{"scan": "house"}]')
    with pytest.raises(ValueError, match="item 0 has no 'path_id'"):
        prepare_hanna(PrepareConfig(data_dir=tmp_path))


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_names_what_can_be_prepared(word, capsys):
    with pytest.raises(SystemExit, match="0"):
        command(["prepare", word])
    printed = capsys.readouterr().out
    assert "usage: prevalent prepare NAME" in printed
    assert all(f"  {name} " in printed for name in WORK)


@pytest.mark.parametrize("verb", [*VERBS, *(f"prepare {name}" for name in WORK)])
def test_every_verb_has_a_page_of_help(verb, capsys):
    with pytest.raises(SystemExit, match="0"):
        command([*verb.split(), "--help"])
    printed = capsys.readouterr()
    assert printed.out.startswith(f"usage: prevalent {verb}")
    assert len(printed.out.splitlines()) > 5
    assert not printed.err
