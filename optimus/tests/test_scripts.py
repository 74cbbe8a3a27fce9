import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from optimus.__main__ import main
from optimus.runtime.published import read_published
from optimus.tasks import (
    classifier as classifier_options,
    dialog as dialog_options,
    label_control as label_control_options,
    language_model as presets,
)

PRESETS = {
    "train": presets.PRESETS,
    "train-dialog": dialog_options.PRESETS,
    "train-label-control": label_control_options.PRESETS,
    "train-classifier": classifier_options.PRESETS,
}
ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "scripts").glob("*/*.sh"))
RECORDER = (
    '#!/usr/bin/env bash\nprintf "%s\\t" "$(basename "$0")" "$@" >> "$RECORD"\necho >> "$RECORD"\n'
)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The command lines of every script under --dry-run, taken down by stand-ins on the PATH."""
    folder = tmp_path_factory.mktemp("bin")
    for name in ("torchrun", "python"):
        (folder / name).write_text(RECORDER)
        (folder / name).chmod(0o755)
    lines = {}
    for script in SCRIPTS:
        record = folder / "record"
        environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
        environment["RECORD"] = str(record)
        subprocess.run([script, "--dry-run"], env=environment, check=True)
        lines[script] = [line.split("\t")[:-1] for line in record.read_text().splitlines()]
        record.unlink()
    return lines


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_command_of_a_script_is_valid_and_does_nothing_when_dry(script, recorded, capsys):
    assert 1 <= len(recorded[script]) <= 2
    for words in recorded[script]:
        assert "--dry-run" in words
        with pytest.raises(SystemExit) as stopped:
            main(words[words.index("optimus") + 1 :])
        assert stopped.value.code == 0, capsys.readouterr().err


def test_a_dry_run_through_the_real_programs_exits_with_0(tmp_path):
    script = ROOT / "scripts/from_scratch/small_penn_0.50.sh"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [script, "--dry-run"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
    )
    assert done.returncode == 0, done.stderr
    assert '"free_bits": 0.5' in done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_script_is_short_and_runs_where_its_name_says(script):
    text = script.read_text()
    assert len(text.splitlines()) <= 25
    assert max(map(len, text.splitlines())) <= 100
    assert "set -euo pipefail" in text
    place = script.relative_to(ROOT / "scripts").with_suffix("").as_posix()
    assert f"runs/{place}}}" in text
    preset = re.search(r"optimus (train\S*) (\S+)", text)
    assert preset is not None
    assert PRESETS[preset[1]][preset[2]][1].run_dir == Path("runs", place)


def test_every_preset_but_the_quick_ones_has_a_script():
    text = "".join(script.read_text() for script in SCRIPTS)
    missing = {name for verb in PRESETS for name in PRESETS[verb] if f" {verb} {name} " not in text}
    assert missing == {"demo", "smoke"}


def test_every_published_figure_names_a_script_that_exists():
    figures = read_published(ROOT / "published")
    assert {figure.script for figure in figures if figure.script} <= {
        script.relative_to(ROOT).as_posix() for script in SCRIPTS
    }
