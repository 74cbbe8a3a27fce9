"""Each trap in docs/faults.md names the commit that mended it."""

import re

from documents import ROOT

ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs" / "faults.md").read_text().splitlines()
    if "`tests/" in line
]


def test_every_trap_has_the_commit_that_mended_it():
    assert len(ROWS) > 30
    bad = [row for row in ROWS if len(row) != 4]
    bad += [row for row in ROWS if not re.fullmatch(r"[0-9a-f]{7,}(, [0-9a-f]{7,})*", row[2])]
    assert bad == []
