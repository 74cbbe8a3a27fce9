"""Numbers of ours in the documents stand in a record of evidence/, those of papers in published/.

A comment ``<!-- evidence: ID ID -->`` above a table or a paragraph names the records that hold its
numbers (``published`` stands for the published figures). Tables with decimal fractions need one, or
``<!-- settings -->``, except in documents about other things, and paragraphs with them where a
document names a record anywhere. A number is found if it is one of the record, rounded.
"""

import re
from decimal import Decimal
from itertools import chain

import pytest

from fqgan.runtime.comparison import compare
from fqgan.runtime.published import read_evidence, read_published, read_tables

OTHER_DOCUMENTS = {
    "data.md",
    "design.md",
    "deviations.md",
    "migrating.md",
    "model_card.md",
    "numerics.md",
}
SETTINGS = re.compile(r"<!-- settings -->\n+((?:[^\n]+\n)+)")
CODE = re.compile(r"```.*?```|^(?: {4}[^\n]*\n)+", flags=re.DOTALL | re.MULTILINE)
MARK = re.compile(r"<!-- evidence: (.+?) -->\n+((?:[^\n]+\n)+)")
NUMBER = re.compile(r"(?<![\w.,])[-−]?\d+(?:,\d{3})*(?:\.\d+)?(?![\w]|\.\d)")
FRACTION = re.compile(r"\d\.\d")


@pytest.fixture(scope="module")
def root(request):
    return request.config.rootpath


@pytest.fixture(scope="module")
def known(root):
    """Identifier of a record -> its numbers; ``published`` -> those of the papers."""
    numbers = {"published": set()}
    for figure in read_published(root / "published"):
        numbers["published"] |= {figure.value, figure.spread}
        words = (figure.row, figure.data, figure.note, figure.protocol)
        numbers["published"] |= numbers_in(" ".join(words))
    texts = [path.read_text() for path in sorted((root / "evidence").rglob("*.toml"))]
    for text in chain.from_iterable(text.split("[[record]]")[1:] for text in texts):
        (name,) = re.findall(r'^id = "(.+)"', text, flags=re.MULTILINE)
        numbers[name] = numbers_in(text)
    return numbers


def numbers_in(text: str) -> set[Decimal]:
    return {plain(found) for found in NUMBER.findall(text)}


def plain(text: str) -> Decimal:
    return Decimal(text.replace(",", "").replace("−", "-"))


def documents(root):
    return [*sorted((root / "docs").glob("*.md")), root / "README.md"]


def prose(block: str) -> str:
    """A block without code, addresses, dates, versions, places in a paper, a table's header."""
    lines = block.splitlines()
    if len(lines) > 1 and set(lines[1]) <= set("|-: "):
        lines = lines[2:]
    text = re.sub(r"`[^`]*`|\]\([^)]*\)|https?://\S+", " ", "\n".join(lines))
    return re.sub(r"\d{4}-\d{2}-\d{2}|(Sec\.|Tables?|Figure|PyTorch|Python) [\d.]+", " ", text)


def stands_in(number: str, held: set[Decimal]) -> bool:
    wanted = plain(number)
    digit = Decimal(1).scaleb(int(wanted.as_tuple().exponent))
    return any(one is not None and abs(one - wanted) <= digit / 2 for one in held)


def test_every_marked_number_stands_in_its_record(root, known):
    missing, marked = [], 0
    for path in documents(root):
        for names, block in MARK.findall(path.read_text()):
            unknown = set(names.split()) - set(known)
            assert not unknown, f"{path.name}: no record is called {sorted(unknown)}"
            held = set().union(*(known[name] for name in names.split()))
            found = NUMBER.findall(prose(block))
            marked += len(found)
            missing += [
                f"{path.name}: {number} is not in {names}: {block[:60]!r}"
                for number in found
                if not stands_in(number, held)
            ]
    assert not missing, "\n".join(missing)
    assert marked > 20


def test_every_table_of_fractions_names_its_record(root):
    """So does every paragraph of a document that names a record, but for what explains times."""
    unmarked = []
    for path in documents(root):
        if path.name in OTHER_DOCUMENTS:
            continue
        text = CODE.sub("", path.read_text())
        named = [block for _, block in MARK.findall(text)] + SETTINGS.findall(text)
        tables_only = path.name == "benchmarks.md" or not MARK.search(text)
        for block in re.findall(r"(?:^[^\n]+\n)+", text, flags=re.MULTILINE):
            rest = block
            for one in named:
                rest = rest.replace(one, "")
            if tables_only and not block.startswith("|"):
                continue
            if FRACTION.search(prose(rest)):
                unmarked.append(f"{path.name}: {block[:100]!r}")
    assert not unmarked, "\n".join(unmarked)


def test_records_compare_with_figures_that_exist_and_name_a_command(root):
    records = read_evidence(root / "evidence")
    compare(read_tables(root / "published"), records)
    records += read_evidence(root / "evidence" / "benchmarks")
    for record in records:
        assert record.results, f"{record.id} holds no result"
        assert re.match(r"\d{4}-\d{2}-\d{2}$", record.date), record.id
        assert re.match(r"(recorded in )?[0-9a-f]{7}\b", record.commit), record.id


def test_no_figure_is_a_recollection_without_a_reason(root):
    for figure in read_published(root / "published"):
        assert figure.source, figure.key
        assert figure.confidence in ("high", "medium", "low")
        assert figure.confidence != "low" or figure.note, figure.key
