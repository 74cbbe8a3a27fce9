import bz2
import gzip
import logging

import pytest

from optimus.data.text import load_corpus, open_sentences
from optimus.data.tokenizers import load_tokenizers, train_tokenizers
from optimus.data.toy import toy_sentences
from optimus.data.wikipedia import (
    WikipediaConfig,
    build_splitter,
    prepare_wikipedia,
    split_by_rules,
    strip_markup,
)

SENTENCES = [s.replace(" .", ".").capitalize() for s in toy_sentences(240, seed=1)]


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vocabulary")
    train_tokenizers(SENTENCES, 120, 300).save(folder)
    return folder


def dump():
    """Twelve articles of twenty sentences, a talk page and a redirect."""
    pages = []
    for i in range(12):
        text = " ".join(SENTENCES[20 * i : 20 * i + 20])
        pages.append(f"<page><ns>0</ns><revision><text>'''{text}'''</text></revision></page>")
    pages.append("<page><ns>1</ns><revision><text>A talk page.</text></revision></page>")
    pages.append(
        '<page><ns>0</ns><redirect title="x"/><revision><text>No.</text></revision></page>'
    )
    return f'<mediawiki xmlns="http://example.org/export">{"".join(pages)}</mediawiki>'.encode()


def build(vocabulary, folder, source, **options):
    options = {"documents_per_shard": 5, "held_out": 3, "processes": 1, **options}
    return WikipediaConfig(vocabulary=vocabulary, folder=folder, source=source, **options)


def texts(tokenizers, shards):
    return [tokenizers.decode(s.decoder(i)) for s in shards for i in range(len(s))]


@pytest.mark.parametrize("suffix", [".xml", ".xml.bz2", ".xml.gz"])
def test_a_dump_becomes_shards_and_held_out_text(vocabulary, tmp_path, suffix):
    source = tmp_path / f"dump{suffix}"
    pack = {".bz2": bz2.compress, ".gz": gzip.compress}.get(source.suffix, bytes)
    source.write_bytes(pack(dump()))
    prepare_wikipedia(build(vocabulary, tmp_path / "out", source))
    tokenizers = load_tokenizers(vocabulary)
    shards = load_corpus(tmp_path / "out", "train", tokenizers)
    assert len(shards) == 3
    valid = (tmp_path / "out" / "valid.txt").read_text().splitlines()
    test = (tmp_path / "out" / "test.txt").read_text().splitlines()
    assert [*valid, *test, *texts(tokenizers, shards)] == SENTENCES
    assert len(valid) == len(test) == 3


def test_a_run_that_was_cut_off_ends_with_the_same_files(vocabulary, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    source = tmp_path / "dump.xml"
    source.write_bytes(dump())
    prepare_wikipedia(build(vocabulary, tmp_path / "whole", source))
    halves = tmp_path / "halves"
    prepare_wikipedia(build(vocabulary, halves, source, max_shards=1))
    shard = halves / "shards" / "shard-00000.safetensors"
    stamp = shard.stat().st_mtime_ns
    (halves / "shards" / "shard-00001.safetensors").write_bytes(b"cut off")
    prepare_wikipedia(build(vocabulary, halves, source))
    assert shard.stat().st_mtime_ns == stamp
    for path in sorted((tmp_path / "whole").rglob("*.*")):
        other = halves / path.relative_to(tmp_path / "whole")
        if path.is_file():
            assert path.read_bytes() == other.read_bytes(), path.name


def test_two_processes_make_what_one_makes(vocabulary, tmp_path):
    source = tmp_path / "dump.xml"
    source.write_bytes(dump())
    for processes in (1, 2):
        prepare_wikipedia(build(vocabulary, tmp_path / str(processes), source, processes=processes))
    shards = [sorted((tmp_path / name / "shards").iterdir()) for name in "12"]
    assert [p.read_bytes() for p in shards[0]] == [p.read_bytes() for p in shards[1]]


def test_raw_text_is_filtered(vocabulary, tmp_path):
    source = tmp_path / "wiki.txt"
    lines = ['<doc id="1">', SENTENCES[0], "", "word " * 64, "x" * 300, SENTENCES[1], "</doc>"]
    source.write_text("\n".join(lines))
    prepare_wikipedia(build(vocabulary, tmp_path / "out", source, sentence_per_line=True))
    shard = open_sentences(tmp_path / "out" / "shards" / "shard-00000.safetensors")
    counts = shard.counts
    assert (counts.kept, counts.too_many_words, counts.too_many_tokens) == (2, 1, 1)


def test_other_settings_need_another_folder(vocabulary, tmp_path):
    source = tmp_path / "dump.xml"
    source.write_bytes(dump())
    prepare_wikipedia(build(vocabulary, tmp_path / "out", source))
    with pytest.raises(ValueError, match="another source, vocabulary or filter"):
        prepare_wikipedia(build(vocabulary, tmp_path / "out", source, max_words=10))


@pytest.mark.parametrize("suffix", [".xml", ".xml.bz2"])
def test_a_truncated_dump_is_named(vocabulary, tmp_path, suffix):
    source = tmp_path / f"dump{suffix}"
    content = bz2.compress(dump()) if suffix.endswith("bz2") else dump()
    source.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="damaged or incomplete"):
        prepare_wikipedia(build(vocabulary, tmp_path / "out", source))


def test_bad_input_is_said_before_any_work(vocabulary, tmp_path):
    with pytest.raises(FileNotFoundError, match="--source"):
        prepare_wikipedia(build(vocabulary, tmp_path / "out", tmp_path / "none.xml"))
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(ValueError, match="holds no text"):
        prepare_wikipedia(build(vocabulary, tmp_path / "out", tmp_path / "empty.txt"))
    with pytest.raises(ValueError, match="--max-words"):
        build(vocabulary, tmp_path, None, max_words=0)
    with pytest.raises(ValueError, match="--max-tokens"):
        build(vocabulary, tmp_path, None, max_tokens=2)
    with pytest.raises(ValueError, match="--processes"):
        build(vocabulary, tmp_path, None, processes=-1)


PAGE = """{{Infobox person|name={{nowrap|Ada}}}}
'''Ada''' (born 1815) was an [[England|English]] [[mathematician]].<ref name="a">see {{cite}}</ref>
<!-- hidden -->[[File:A.jpg|thumb|A [[link]] here]]
== Life ==
* an item
{| class="x"
| a cell {| nested |}
|}
She lived&nbsp;in London (see [https://example.org the site]).__NOTOC__
[[Category:People]]
"""


def test_markup_becomes_paragraphs():
    assert strip_markup(PAGE).split("\n") == [
        "Ada (born 1815) was an English mathematician.",
        "She lived in London (see the site).",
    ]


@pytest.mark.parametrize(
    ("paragraph", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("Mr. J. Smith left. He won.", ["Mr. J. Smith left.", "He won."]),
        ("It cost 3.14 euros. Then no. 5 came.", ["It cost 3.14 euros.", "Then no. 5 came."]),
        ('She said "It works!" Then it rained.', ['She said "It works!"', "Then it rained."]),
        ("The U.S. Army left, e.g. in May.", ["The U.S. Army left, e.g. in May."]),
        ("He came... and went.", ["He came... and went."]),
        ("", []),
    ],
)
def test_sentences_end_where_a_reader_ends_them(paragraph, expected):
    assert split_by_rules(paragraph) == expected


def test_punkt_is_asked_for_by_name(monkeypatch):
    import nltk

    def missing(_):
        raise LookupError

    monkeypatch.setattr(nltk.data, "find", missing)
    with pytest.raises(FileNotFoundError, match="punkt_tab"):
        build_splitter("nltk")
    assert build_splitter("rules") is split_by_rules
