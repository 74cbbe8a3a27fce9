"""Published figures are read with their source, and tables are well formed."""

import pytest

from optimus.runtime.published import markdown_table, read_published

ENTRY = """
source = "Someone et al."
[[figure]]
table = "Table 1"
row = "ours"
dataset = "PTB"
metric = "PPL"
value = 23.5
confidence = "verified"
"""


def test_shared_fields_apply_to_every_figure(tmp_path):
    (tmp_path / "a.toml").write_text(ENTRY)
    (figure,) = read_published(tmp_path)
    assert (figure.value, figure.source, figure.unit) == (23.5, "Someone et al.", "")


def test_a_misspelt_key_is_named(tmp_path):
    (tmp_path / "a.toml").write_text(ENTRY + "colour = 3\n")
    with pytest.raises(ValueError, match=r"unknown keys \['colour'\]"):
        read_published(tmp_path)


def test_an_incomplete_figure_is_named(tmp_path):
    (tmp_path / "a.toml").write_text('[[figure]]\nrow = "x"\n')
    with pytest.raises(ValueError, match="figure 1 is incomplete"):
        read_published(tmp_path)


def test_a_table_escapes_its_separator():
    table = markdown_table(["a", "b"], [[1, "x|y"]])
    assert table == "| a | b |\n| --- | --- |\n| 1 | x\\|y |\n"
