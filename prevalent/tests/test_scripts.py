"""Every script names a preset that exists and passes its options on."""

import os
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
SCRIPTS = sorted((PROJECT / "scripts").rglob("*.sh"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_states_what_to_expect(script):
    text = script.read_text()
    assert text.startswith("#!/usr/bin/env bash\n# ")
    assert "set -euo pipefail" in text
    assert '"$@"' in text
    assert len(text.splitlines()) <= 25
    assert os.access(script, os.X_OK)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_dry_run_checks_the_configuration(script, tmp_path):
    environment = os.environ | {"GPUS": "1", "RUN_DIR": str(tmp_path / "run")}
    done = subprocess.run(
        ["bash", str(script), "--dry-run"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr[-1000:]
    assert str(tmp_path / "run") in done.stdout
    assert not (tmp_path / "run").exists()
