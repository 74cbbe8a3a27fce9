"""What docs/using.md and the README show in Python runs as it stands there."""

import re
from pathlib import Path

import pytest
from factories import tiny_vae

from optimus.data.toy import toy_sentences

ROOT = Path(__file__).parents[1]
PYTHON = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("name", ["docs/using.md", "README.md"])
def test_the_python_of_a_document_runs(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tiny_vae(toy_sentences(20)).save_pretrained("runs/optimus-demo")
    blocks = PYTHON.findall((ROOT / name).read_text())
    assert blocks
    scope: dict[str, object] = {}
    for block in blocks:
        exec(block, scope)
    assert capsys.readouterr().out
