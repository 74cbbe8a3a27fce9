"""Each trap in docs/faults.md is held by a test that exists."""

import ast
import re

import pytest
from documents import ROOT

TEXT = (ROOT / "docs" / "faults.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)))


@pytest.mark.parametrize("path", sorted({path for path, _ in NAMED}))
def test_the_named_tests_exist(path):
    tree = ast.parse((ROOT / path).read_text())
    there = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert [test for where, test in NAMED if where == path and test not in there] == []


def test_every_trap_has_a_test():
    rows = [line for line in TEXT.splitlines() if line.startswith("| ") and "|---" not in line]
    traps = [row for row in rows if not row.startswith("| what was done")]
    assert len(traps) > 20
    assert [row for row in traps if not re.search(r"`tests/[\w/]+\.py::test_\w+`", row)] == []
