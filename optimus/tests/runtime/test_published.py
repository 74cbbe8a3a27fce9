"""Published figures and our results are read with all that belongs to them, or refused by name."""

from decimal import Decimal

import pytest

from optimus.runtime import published
from optimus.runtime.published import (
    find_folder,
    markdown_table,
    read_evidence,
    read_published,
    read_tables,
)
from optimus.runtime.report import ReportConfig

TABLE = """
paper = "Someone et al."
[[table]]
label = "Table 3"
title = "Language"
source = "arXiv 1 Table 3"
confidence = "high"
data = ["PTB", "Yelp"]
units = { KL = "nats" }
script_data = { PTB = "penn" }
protocol = "words"
[[table.row]]
name = "ours"
script = "scripts/{data}_{metric}.sh"
PTB = { PPL = 23.50, KL = { value = 4, spread = 0.5, confidence = "low", note = "from memory" } }
Yelp = { PPL = { value = 2.5, at_least = true } }
"""
RECORD = """
[[record]]
id = "small"
title = "A small run"
command = "optimus train smoke"
commit = "abc1234"
date = "2026-11-22"
seeds = "0 to 2"
machine = "a core"
checksum = "ptb.train.txt fcea919f"
protocol = "300 sentences"
table = "Table 3"
data = ["PTB"]
[[record.row]]
name = "mine"
published = "ours"
PTB = { PPL = { value = 23.4, least = 23.1, greatest = 23.6 } }
[[record.row]]
name = "half of it"
published = "ours"
differs = "half the data"
PTB = { KL = 4.1 }
"""


def test_a_figure_takes_from_its_table_what_it_does_not_say_itself(tmp_path):
    (tmp_path / "a.toml").write_text(TABLE)
    perplexity, divergence, bound = read_published(tmp_path)
    assert perplexity.key == ("Table 3", "ours", "PTB", "PPL")
    assert (perplexity.source, perplexity.protocol) == ("arXiv 1 Table 3", "words")
    assert perplexity.script == "scripts/penn_ppl.sh"
    assert str(perplexity) == "23.50"
    assert (divergence.confidence, divergence.note) == ("low", "from memory")
    assert str(divergence) == "4 ± 0.5 nats"
    assert (bound.script, str(bound)) == ("scripts/Yelp_ppl.sh", "≥ 2.5")


def test_tables_stand_in_the_order_of_the_paper(tmp_path):
    later = TABLE.replace("Table 3", "Table 1")
    (tmp_path / "a.toml").write_text(TABLE.replace("Table 3", "Curves"))
    (tmp_path / "b.toml").write_text(TABLE)
    (tmp_path / "c.toml").write_text(later)
    assert [table.label for table in read_tables(tmp_path)] == ["Table 1", "Table 3", "Curves"]
    (tmp_path / "d.toml").write_text(later)
    with pytest.raises(ValueError, match="two tables are called 'Table 1'"):
        read_tables(tmp_path)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (TABLE.replace("protocol =", "protokoll ="), r"unknown keys \['protokoll'\]"),
        (TABLE.replace("Yelp = {", "Yahoo = {"), r"row 'ours' has unknown keys \['Yahoo'\]"),
        (TABLE.replace("at_least", "at_most"), r"unknown keys \['at_most'\]"),
        (TABLE.replace('confidence = "high"\n', ""), "is incomplete"),
        (TABLE.replace('name = "ours"', ""), "a row has no name"),
        (TABLE + "[[figure]]\n", r"unknown keys \['figure'\]"),
        ("=", "is no TOML"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(tmp_path, wrong, message):
    (tmp_path / "a.toml").write_text(wrong)
    with pytest.raises(ValueError, match=message):
        read_tables(tmp_path)


def test_a_result_says_where_it_comes_from_and_what_it_stands_beside(tmp_path):
    (tmp_path / "a.toml").write_text(RECORD)
    (record,) = read_evidence(tmp_path)
    assert (record.id, record.seeds, record.commit) == ("small", "0 to 2", "abc1234")
    same, other = record.results
    assert same.key == ("Table 3", "ours", "PTB", "PPL")
    assert (same.value, same.differs, same.evidence) == (Decimal("23.4"), "", "small")
    assert str(same) == "23.4 [23.1, 23.6]"
    assert other.differs == "half the data"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (RECORD.replace('commit = "abc1234"\n', ""), "incomplete .*commit"),
        (RECORD.replace('table = "Table 3"\n', ""), "why none"),
        (RECORD.replace("seeds =", "seed ="), r"unknown keys \['seed'\]"),
        (RECORD + RECORD, "occurs twice"),
    ],
)
def test_what_is_wrong_with_a_record_is_named(tmp_path, wrong, message):
    (tmp_path / "a.toml").write_text(wrong)
    with pytest.raises(ValueError, match=message):
        read_evidence(tmp_path)


def test_the_folders_of_this_project_are_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert list(find_folder("published").glob("*.toml"))
    assert list(find_folder("evidence").glob("*.toml"))
    with pytest.raises(FileNotFoundError, match="--absent"):
        find_folder("absent")


def test_an_installation_keeps_them_in_share(tmp_path, monkeypatch):
    module = tmp_path / "lib" / "site-packages" / "rooms" / "runtime" / "published.py"
    module.parent.mkdir(parents=True)
    (tmp_path / "share" / "rooms" / "published").mkdir(parents=True)
    monkeypatch.setattr(published, "__file__", str(module))
    assert find_folder("published") == tmp_path / "share" / "rooms" / "published"


def test_a_table_escapes_its_separator():
    table = markdown_table(["a", "b"], [[1, "x|y"]])
    assert table == "| a | b |\n| --- | --- |\n| 1 | x\\|y |\n"


def test_a_folder_of_runs_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"--runs \S*nowhere is no folder"):
        ReportConfig(runs=tmp_path / "nowhere")
    assert ReportConfig(runs=tmp_path).runs == tmp_path
