import importlib
import json

import pytest

from fqgan import config as families
from fqgan.config import FAMILIES, choose, family_of


def test_the_folder_that_is_named_tells_the_family(tmp_path):
    for name, family in FAMILIES.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({family.mark: 1, "seed": 0}))
        assert family_of(tmp_path / name) == name
        for words in (["--run-dir", str(tmp_path / name)], [f"--weights={tmp_path / name}"]):
            assert choose(["--seed", "1", *words]) == (name, ["--seed", "1", *words])


def test_a_family_that_is_named_first_is_taken():
    for name in FAMILIES:
        assert choose([name, "--help"]) == (name, ["--help"])


def test_without_a_folder_it_is_biggan(tmp_path):
    assert choose(["--samples", "a.npz"])[0] == "biggan"
    assert choose(["--run-dir", str(tmp_path / "absent")])[0] == "biggan"
    assert choose([])[0] == "biggan"


def test_a_damaged_config_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is no configuration that a run wrote"):
        family_of(tmp_path)


@pytest.mark.parametrize("verb", ["sample", "evaluate"])
def test_every_family_has_the_commands_of_the_table(verb):
    for family in FAMILIES.values():
        module, _, function = getattr(family, verb).partition(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_the_command_of_the_family_gets_the_rest(monkeypatch):
    called = []
    monkeypatch.setattr(families, "call", lambda target, argv: called.append((target, argv)))
    families.sample(["biggan", "--seed", "1"])
    families.evaluate(["--seed", "1"])
    assert called == [
        (FAMILIES["biggan"].sample, ["--seed", "1"]),
        (FAMILIES["biggan"].evaluate, ["--seed", "1"]),
    ]
