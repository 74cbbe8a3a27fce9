"""Wiki mark-up to prose, and prose to sentences.

Both are deliberately small: good enough for pre-training text, with nothing to download.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable

_COMMENT = re.compile(r"<!--.*?-->", re.S)
_DROPPED = re.compile(
    r"<(ref|math|gallery|table|timeline|syntaxhighlight|source|code|pre|score)\b[^<>]*?"
    r"(?:/>|>.*?</\1\s*>)",
    re.S | re.I,
)
_TEMPLATE = re.compile(r"\{\{[^{}]*\}\}")
_TABLE = re.compile(r"\{\|(?:(?!\{\||\|\}).)*\|\}", re.S)
_MEDIA = re.compile(
    r"\[\[(?:file|image|category|media)\s*:[^\[\]]*(?:\[\[[^\[\]]*\]\][^\[\]]*)*\]\]", re.I
)
_LINK = re.compile(r"\[\[(?:[^\[\]|]*\|)*([^\[\]|]*)\]\]")
_ADDRESS = re.compile(r"\[(?:https?:|ftp:)?//[^\s\]]+\s*([^\]]*)\]")
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
_QUOTES = re.compile(r"'{2,5}")
_SWITCH = re.compile(r"__[A-Z]+__")
_EMPTY_BRACKETS = re.compile(r"\(\s*[;,:\s]*\)")
_NOT_PROSE = ("*", "#", ":", ";", "|", "!", "{", "}", "=")
MAX_NESTING = 30


def strip_markup(text: str) -> str:
    """Prose of a wiki page, one paragraph a line; headings, lists and tables are left out."""
    text = _DROPPED.sub(" ", _COMMENT.sub("", text))
    for pattern in (_TEMPLATE, _TABLE):
        for _ in range(MAX_NESTING):  # from the inside out
            text, count = pattern.subn("", text)
            if not count:
                break
    text = _LINK.sub(r"\1", _MEDIA.sub("", text))
    text = _QUOTES.sub("", _ADDRESS.sub(r"\1", text))
    text = html.unescape(_SWITCH.sub("", _TAG.sub("", text)))
    text = _EMPTY_BRACKETS.sub("", text)
    lines = (" ".join(line.split()) for line in text.split("\n"))
    return "\n".join(line for line in lines if line and not line.startswith(_NOT_PROSE))


# Words that end in a full stop and do not end a sentence, before a capital or a number.
_ABBREVIATION_LIST = """
mr mrs ms dr prof st sr jr gen col lt capt sgt rev hon gov sen rep pres messrs vs etc e.g i.e cf al
ca approx no nos vol vols pp p fig figs ed eds op art ch sec jan feb mar apr jun jul aug sep sept
oct nov dec mt ft inc ltd co corp bros dept est univ assn ave blvd rd born d b c fl lit pop
"""
_ABBREVIATIONS = frozenset(_ABBREVIATION_LIST.split())
_END = re.compile(r"([.!?]+)([\"'”’)\]]*)\s+(?=[\"'“‘(\[]*[A-Z0-9À-ÖØ-Þ])")
_INITIALS = re.compile(r"(?:[^\W\d_]\.)*[^\W\d_]")


def split_by_rules(paragraph: str) -> list[str]:
    """Sentences of a paragraph.

    A sentence ends at ``.``, ``!`` or ``?`` (and closing quotes or brackets) before white space and
    a capital, a digit or an opening mark, unless the full stop belongs to an initial or to a common
    abbreviation.
    """
    sentences, start = [], 0
    for match in _END.finditer(paragraph):
        words = paragraph[start : match.start()].split()
        word = words[-1].lstrip("\"'“‘([") if words else ""
        if match.group(1) == "." and (
            word.lower() in _ABBREVIATIONS or _INITIALS.fullmatch(word) is not None
        ):
            continue
        sentences.append(paragraph[start : match.end()].strip())
        start = match.end()
    sentences.append(paragraph[start:].strip())
    return [sentence for sentence in sentences if sentence]


def build_splitter(kind: str) -> Callable[[str], list[str]]:
    """``rules`` is ours; ``nltk`` is Punkt, whose model must have been downloaded."""
    if kind == "rules":
        return split_by_rules
    import nltk

    try:
        nltk.data.find("tokenizers/punkt_tab/english")
    except LookupError as error:
        raise FileNotFoundError(
            "--splitter nltk needs the Punkt model: run `python -m nltk.downloader punkt_tab`, "
            "or use --splitter rules"
        ) from error
    return nltk.sent_tokenize
