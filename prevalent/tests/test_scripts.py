"""Every script names a preset that exists and passes its options on."""

import os
import subprocess
from pathlib import Path

import pytest

from prevalent.__main__ import main

PROJECT = Path(__file__).resolve().parent.parent
SCRIPTS = sorted((PROJECT / "scripts").glob("*/*.sh"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_states_what_to_expect(script):
    text = script.read_text()
    assert text.startswith("#!/usr/bin/env bash\n# ")
    assert "set -euo pipefail" in text
    assert '"$@"' in text
    assert len(text.splitlines()) <= 25
    assert os.access(script, os.X_OK)


STUB = '#!/bin/sh\nprintf "%s\\n" "$@" > "$WORDS"\n'


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_dry_run_checks_the_configuration(script, tmp_path, capsys):
    """The script's words go to the command in this process, which spares an interpreter each."""
    for name in ("torchrun", "python"):
        (tmp_path / name).write_text(STUB)
        (tmp_path / name).chmod(0o755)
    environment = os.environ | {"GPUS": "1", "RUN_DIR": str(tmp_path / "run")}
    environment |= {"PATH": f"{tmp_path}:{os.environ['PATH']}", "WORDS": str(tmp_path / "words")}
    subprocess.run(["bash", str(script), "--dry-run"], env=environment, check=True, timeout=60)
    words = (tmp_path / "words").read_text().splitlines()
    with pytest.raises(SystemExit, match="0"):
        main(words[words.index("prevalent") + 1 :])
    assert str(tmp_path / "run") in capsys.readouterr().out
    assert not (tmp_path / "run").exists()
