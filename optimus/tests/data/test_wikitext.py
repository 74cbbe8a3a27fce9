import pytest

from optimus.data.wikitext import build_splitter, split_by_rules, strip_markup

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
