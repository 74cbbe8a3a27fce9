"""Wikipedia as shards of tokenised sentences: the pre-training corpus (Sec. 4).

A dump or raw text is stripped of its mark-up, cut into sentences, filtered (fewer than 64 words, at
most 256 tokens on either side) and written shard by shard, in parallel. A shard is a fixed number
of documents, so that a run that was cut off continues with the first missing shard and ends with
the same files. The rules for mark-up and sentence ends are deliberately few: good enough for
pre-training text, with nothing to download.
"""

from __future__ import annotations

import bz2
import gzip
import html
import json
import logging
import multiprocessing
import os
import re
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, cast
from xml.etree import ElementTree

from tqdm import tqdm

from ..runtime.download import download
from ..runtime.files import why, write_atomically, write_json
from .text import SHARD, TextOptions, open_sentences, save_sentences, tokenize
from .tokenizers import Tokenizers, load_tokenizers

logger = logging.getLogger(__name__)

DUMP = "https://dumps.wikimedia.org/enwiki/latest/enwiki-latest-pages-articles.xml.bz2"
LINES_PER_DOCUMENT = 100  # of raw text, which has no pages


@dataclass(frozen=True)
class WikipediaConfig:
    """Write FOLDER/shards/shard-*.safetensors, valid.txt and test.txt."""

    vocabulary: Path
    """Folder with bert/ and gpt2/ vocabularies, those of the model that will be trained."""
    folder: Path = Path("data/wikipedia")
    """Where the corpus goes."""
    source: Path | None = None
    """A dump (.xml, .xml.bz2, .xml.gz) or raw text (.txt, .txt.gz) at hand; none downloads."""
    url: str = DUMP
    """The dump to download (about 25 GB)."""
    sentence_per_line: bool = False
    """The raw text has one sentence a line already."""
    splitter: Literal["rules", "nltk"] = "rules"
    """rules needs nothing; nltk is the authors' Punkt and needs its model."""
    max_words: int = 63
    """Longer sentences are left out."""
    max_tokens: int = 256
    """Sentences of more tokens on either side are left out."""
    documents_per_shard: int = 10_000
    """Pages of a dump in a shard; of raw text, blocks of 100 lines."""
    held_out: int = 2_000
    """Sentences of the first shard for each of valid.txt and test.txt."""
    processes: int = 0
    """Worker processes; 0 takes one for each core."""
    max_shards: int | None = None
    """Stop after this many shards, for a trial."""

    def __post_init__(self) -> None:
        for name in ("max_words", "documents_per_shard"):
            if getattr(self, name) < 1:
                option = name.replace("_", "-")
                raise ValueError(f"--{option} must be at least 1, got {getattr(self, name)}")
        if self.max_tokens < 3:
            raise ValueError(f"--max-tokens must be at least 3, got {self.max_tokens}")
        if self.held_out < 0 or self.processes < 0:
            raise ValueError("--held-out and --processes must not be negative")
        if self.max_shards is not None and self.max_shards < 1:
            raise ValueError(f"--max-shards must be at least 1, got {self.max_shards}")


class _Task(NamedTuple):
    """One shard to make."""

    number: int
    documents: list[str]
    markup: bool
    config: WikipediaConfig


def prepare_wikipedia(config: WikipediaConfig) -> None:
    """Make every missing shard of ``config``; running it again continues."""
    tokenizers = load_tokenizers(config.vocabulary)
    source = config.source
    if source is None:
        source = download(config.url, config.folder / "raw" / Path(config.url).name)
    if not source.is_file():
        raise FileNotFoundError(f"--source {source} does not exist")
    build_splitter(config.splitter)
    shards = config.folder / "shards"
    shards.mkdir(parents=True, exist_ok=True)
    _check_plan(config, source, tokenizers.fingerprint)
    workers = config.processes or os.cpu_count() or 1
    totals: Counter[str] = Counter()
    with _Workers(workers, config.vocabulary) as pool, _Source(source) as opened:
        for task in _tasks(opened, config):
            if not _is_made(shards / SHARD.format(task.number), tokenizers.fingerprint):
                totals.update(pool.submit(task))
        totals.update(pool.finish())
    made = len(list(shards.glob("shard-*.safetensors")))
    if not made:
        raise ValueError(f"--source {source} holds no text")
    logger.info("%d shards in %s; this run: %s", made, shards, dict(totals))


def _check_plan(config: WikipediaConfig, source: Path, fingerprint: str) -> None:
    """Refuse to mix shards of different settings in one folder."""
    settings = {
        key: value
        for key, value in asdict(config).items()
        if key not in ("vocabulary", "folder", "source", "url", "processes", "max_shards")
    }
    settings |= {"source_bytes": source.stat().st_size, "vocabulary": fingerprint}
    plan = config.folder / "plan.json"
    if plan.is_file() and json.loads(plan.read_text()) != settings:
        raise ValueError(
            f"{config.folder} was begun with another source, vocabulary or filter (see plan.json); "
            f"choose another --folder or move it away"
        )
    write_json(plan, settings)


def _is_made(path: Path, fingerprint: str) -> bool:
    if not path.is_file():
        return False
    try:
        open_sentences(path, fingerprint)
    except ValueError as error:
        logger.warning("%s; it is made again", error)
        return False
    return True


def _tasks(source: _Source, config: WikipediaConfig) -> Iterator[_Task]:
    documents = source.documents()
    index = 0
    while part := list(islice(documents, config.documents_per_shard)):
        yield _Task(index, part, source.is_dump, config)
        index += 1
        if index == config.max_shards:
            return


class _Source:
    """A dump or a text file as a stream of documents, with a progress bar over its bytes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_dump = ".xml" in path.suffixes
        self._file = path.open("rb")
        size = path.stat().st_size
        self._bar = tqdm(total=size, unit="B", unit_scale=True, desc=path.name, disable=None)

    def __enter__(self) -> _Source:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
        self._file.close()

    def documents(self) -> Iterator[str]:
        """Pages of a dump (articles, no redirects) or blocks of lines of a text."""
        stream: BinaryIO = self._file
        if self.path.suffix == ".bz2":
            stream = cast(BinaryIO, bz2.BZ2File(self._file))
        elif self.path.suffix == ".gz":
            stream = cast(BinaryIO, gzip.GzipFile(fileobj=self._file))
        try:
            for document in _pages(stream) if self.is_dump else _blocks(stream):
                yield document
                self._bar.update(self._file.tell() - self._bar.n)
        except (EOFError, OSError, ElementTree.ParseError) as error:
            raise ValueError(
                f"{self.path} is damaged or incomplete ({why(error)}); the shards made so far "
                "are good, fetch the file again and run the same command"
            ) from error


def _pages(stream: BinaryIO) -> Iterator[str]:
    root = None
    for event, element in ElementTree.iterparse(stream, events=("start", "end")):
        if root is None:
            root = element
        if event == "start" or (not element.tag.endswith("}page") and element.tag != "page"):
            continue
        kinds = {child.tag.rpartition("}")[2]: child for child in element.iter()}
        if kinds["ns"].text == "0" and "redirect" not in kinds and "text" in kinds:
            yield kinds["text"].text or ""
        root.clear()  # pages that were read would fill the memory


def _blocks(stream: BinaryIO) -> Iterator[str]:
    lines = (line.decode("utf-8", errors="replace").strip() for line in stream)
    prose = (line for line in lines if line and not line.startswith(("<doc ", "</doc>")))
    while block := list(islice(prose, LINES_PER_DOCUMENT)):
        yield "\n".join(block)


class _Workers:
    """At most two waiting tasks a process, so that the documents fit into memory."""

    def __init__(self, count: int, vocabulary: Path) -> None:
        self.count = count
        self.vocabulary = vocabulary
        self._pool: ProcessPoolExecutor | None = None
        self._running: deque[Future[dict[str, int]]] = deque()

    def __enter__(self) -> _Workers:
        if self.count > 1:
            # spawned, not forked: the tokenizers' threads do not survive a fork
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.count, mp_context=context)
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def submit(self, task: _Task) -> Counter[str]:
        """Start ``task``; returns the counts of tasks that ended meanwhile."""
        if self._pool is None:
            return Counter(make_shard(task))
        counts = self._wait(2 * self.count - 1)
        self._running.append(self._pool.submit(make_shard, task))
        return counts

    def finish(self) -> Counter[str]:
        """Wait for the rest."""
        return self._wait(0)

    def _wait(self, left: int) -> Counter[str]:
        counts: Counter[str] = Counter()
        try:
            while len(self._running) > left:
                counts.update(self._running.popleft().result())
        except BrokenProcessPool as error:
            raise OSError(
                "a worker process was ended from outside, perhaps for lack of memory; run the same "
                "command again to continue, with fewer --processes"
            ) from error
        return counts


_LOADED: dict[Path, Tokenizers] = {}  # of this process


def make_shard(task: _Task) -> dict[str, int]:
    """Split, filter, tokenise and write one shard; returns the counts of its lines."""
    config = task.config
    if config.vocabulary not in _LOADED:
        if multiprocessing.parent_process() is not None:
            os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes share the cores already
        _LOADED[config.vocabulary] = load_tokenizers(config.vocabulary)
    tokenizers = _LOADED[config.vocabulary]
    split = None if config.sentence_per_line else build_splitter(config.splitter)
    lines = []
    for document in task.documents:
        text = strip_markup(document) if task.markup else document
        for paragraph in text.split("\n"):
            lines += [paragraph] if split is None else split(paragraph)
    if task.number == 0:
        lines = _hold_out(lines, config)
    options = TextOptions(config.max_words, config.max_tokens, config.max_tokens)
    sentences = tokenize(lines, tokenizers, options)
    path = config.folder / "shards" / SHARD.format(task.number)
    save_sentences(path, sentences, tokenizers.fingerprint)
    return asdict(sentences.counts)


def _hold_out(lines: list[str], config: WikipediaConfig) -> list[str]:
    """Write the first sentences that pass the word filter to valid.txt and test.txt."""
    size = min(config.held_out, len(lines) // 20)
    usable = [number for number, line in enumerate(lines) if len(line.split()) <= config.max_words]
    for name, chosen in (("valid", usable[:size]), ("test", usable[size : 2 * size])):
        text = "".join(f"{lines[number]}\n" for number in chosen)
        write_atomically(config.folder / f"{name}.txt", text)
    gone = set(usable[: 2 * size])
    return [line for number, line in enumerate(lines) if number not in gone]


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
