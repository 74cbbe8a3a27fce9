"""Every script: short, named after what it makes, and made of commands that really parse."""

import os
import subprocess
from pathlib import Path

import pytest

from fqgan.__main__ import main
from fqgan.config import all_presets
from fqgan.runtime.published import read_published

PRESETS = all_presets()

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "scripts").glob("*/*.sh"))
SMALL = ("ugatit-demo", "ugatit-smoke", "ugatit-small-data", "biggan-small-data")
RECORDER = (
    '#!/usr/bin/env bash\nprintf "%s\\t" "$(basename "$0")" "$@" >> "$RECORD"; echo >> "$RECORD"\n'
)


def name_of(script):
    return f"{script.parent.name}/{script.stem}"


def recorded(script, folder, *options):
    """The command lines of ``script``, taken down by stand-ins on the PATH."""
    for name in ("torchrun", "fqgan"):
        (folder / name).write_text(RECORDER)
        (folder / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    environment["RECORD"] = str(folder / "record")
    subprocess.run([script, *options], env=environment, check=True)
    return [line.split("\t")[:-1] for line in (folder / "record").read_text().splitlines()]


@pytest.mark.parametrize("script", SCRIPTS, ids=name_of)
def test_a_dry_script_only_checks_its_options(script, tmp_path, capsys):
    for words in recorded(script, tmp_path, "--dry-run"):
        assert words[0] == "torchrun"
        with pytest.raises(SystemExit) as stopped:
            main(words[words.index("fqgan") + 1 :])
        assert stopped.value.code == 0, capsys.readouterr().err


@pytest.mark.parametrize("script", SCRIPTS, ids=name_of)
def test_a_script_trains_and_scores_the_run_its_name_says(script, tmp_path):
    commands = recorded(script, tmp_path)
    assert len(commands) % 2 == 0
    for train, evaluate in zip(commands[::2], commands[1::2], strict=True):
        run_dir = train[train.index("--run-dir") + 1]
        assert evaluate[:2] == ["fqgan", "evaluate"]
        assert evaluate[evaluate.index("--run-dir") + 1] == run_dir
        assert train[train.index("train") + 1] in PRESETS
        assert run_dir.startswith(f"runs/{script.parent.name}/")
        if script.parent.name != "ablations":
            assert run_dir == f"runs/{name_of(script)}"


@pytest.mark.parametrize("script", SCRIPTS, ids=name_of)
def test_a_script_is_short(script):
    lines = script.read_text().splitlines()
    assert len(lines) <= 25
    assert max(map(len, lines)) <= 100
    assert "set -euo pipefail" in lines


def test_every_row_and_its_twin_without_quantizer_has_a_script(tmp_path):
    named = {
        command[command.index("train") + 1]
        for script in SCRIPTS
        for command in recorded(script, tmp_path)
        if "train" in command
    }
    rows = {name for name in PRESETS if name.startswith("biggan-") and "-upstream" not in name}
    rows -= set(SMALL)
    assert rows <= named
    assert {
        name
        for name in PRESETS
        if name.startswith("ugatit-") and "light" not in name and name not in SMALL
    } <= named
    assert {name for name in PRESETS if name.startswith("stylegan2-ffhq")} <= named
    for folder in ("cifar10", "cifar100", "imagenet64", "imagenet128"):
        assert {"biggan", "fq-biggan"} <= {
            path.stem for path in (ROOT / "scripts" / folder).iterdir()
        }


def test_every_script_that_a_figure_names_exists():
    named = {figure.script for figure in read_published(ROOT / "published") if figure.script}
    assert named
    assert named <= {str(script.relative_to(ROOT)) for script in SCRIPTS}
