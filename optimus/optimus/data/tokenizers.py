"""Every sentence twice: BERT WordPiece for the encoder, GPT-2 byte-level BPE for the decoder.

Both run in Rust, from plain vocabulary files. The decoder's vocabulary is GPT-2's plus <PAD>, <BOS>
and <EOS>, added in this order as Optimus does (Li et al., EMNLP 2020): 50257, 50258 and 50259.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from ..runtime.files import json_text, why
from ..runtime.text_files import read_lines

PAD, BOS, EOS = "<PAD>", "<BOS>", "<EOS>"
END_OF_TEXT = "<|endoftext|>"  # GPT-2's own; it serves as the unknown token only
SEPARATOR = " [SEP] "  # between the utterances of a dialog's context
WORDPIECE_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

ENCODER_FILES = ("vocab.txt", "bert_vocab.txt", "bert-base-cased-vocab.txt")
OPTIONS_FILE = "tokenizers.json"

# English clean-up of GPT-2 text, in the authors' order. "do not" becomes "don't" on purpose.
_CLEAN_UP = (
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" do not", " don't"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
)


def clean_up(text: str) -> str:
    """Close the gaps that tokenised English has before punctuation and clitics."""
    for spaced, closed in _CLEAN_UP:
        text = text.replace(spaced, closed)
    return text


@dataclass(frozen=True)
class Tokenizers:
    """The pair of tokenizers of one model.

    Build one with ``load_tokenizers`` or ``train_tokenizers``. Texts are stripped of outer white
    space; a literal special token inside a text becomes that token's id.
    """

    wordpiece: Tokenizer
    bpe: Tokenizer
    lower_case: bool = False

    @cached_property
    def fingerprint(self) -> str:
        """Digest of both vocabularies, the merges and the casing; equal after save and load."""
        bpe = json.loads(self.bpe.to_str())["model"]
        content = [
            sorted(self.wordpiece.get_vocab().items()),
            sorted(self.bpe.get_vocab().items()),
            bpe["merges"],
            self.lower_case,
        ]
        return hashlib.sha256(json_text(content).encode()).hexdigest()

    @property
    def encoder_vocab_size(self) -> int:
        """Number of WordPiece ids."""
        return self.wordpiece.get_vocab_size()

    @property
    def decoder_vocab_size(self) -> int:
        """Number of BPE ids, <PAD>, <BOS> and <EOS> included."""
        return self.bpe.get_vocab_size()

    @property
    def pad_id(self) -> int:
        """Decoder id of <PAD>."""
        return _id(self.bpe, PAD)

    @property
    def bos_id(self) -> int:
        """Decoder id of <BOS>."""
        return _id(self.bpe, BOS)

    @property
    def eos_id(self) -> int:
        """Decoder id of <EOS>."""
        return _id(self.bpe, EOS)

    @property
    def encoder_pad_id(self) -> int:
        """Encoder id of [PAD], 0 in every BERT vocabulary."""
        return _id(self.wordpiece, "[PAD]")

    @property
    def cls_id(self) -> int:
        """Encoder id of [CLS]."""
        return _id(self.wordpiece, "[CLS]")

    @property
    def sep_id(self) -> int:
        """Encoder id of [SEP]."""
        return _id(self.wordpiece, "[SEP]")

    @property
    def mask_id(self) -> int:
        """Encoder id of [MASK]."""
        return _id(self.wordpiece, "[MASK]")

    @property
    def unk_id(self) -> int:
        """Encoder id of [UNK]."""
        return _id(self.wordpiece, "[UNK]")

    def encode_encoder(self, texts: Sequence[str]) -> list[list[int]]:
        """WordPiece ids of each text between [CLS] and [SEP]."""
        rows = self.wordpiece.encode_batch_fast([t.strip() for t in texts])
        return [row.ids for row in rows]

    def encode_decoder(self, texts: Sequence[str]) -> list[list[int]]:
        """BPE ids of each text between <BOS> and <EOS>."""
        rows = self.bpe.encode_batch_fast([t.strip() for t in texts])
        bos, eos = self.bos_id, self.eos_id
        return [[bos, *row.ids, eos] for row in rows]

    def decode(self, ids: Sequence[int], clean: bool = False) -> str:
        """Text of decoder ids: up to the first <EOS>, without <BOS>, <PAD> and outer space.

        ``clean`` closes gaps as `clean_up` does; text that is compared with other text stays as
        it is.

        Special tokens are taken out by id, so that a sentence that never reached <EOS> keeps its
        last word. Deviation: the authors drop the first and the last word whatever they are.
        """
        pad, bos, eos = self.pad_id, self.bos_id, self.eos_id
        kept: list[int] = []
        for token in map(int, ids):
            if token == eos:
                break
            if token not in (pad, bos):
                kept.append(token)
        text = self._join(kept)
        return (clean_up(text) if clean else text).strip()

    def decode_batch(self, rows: Iterable[Sequence[int]], clean: bool = False) -> list[str]:
        """``decode`` of every row."""
        return [self.decode(row, clean) for row in rows]

    def decode_with_special(self, ids: Sequence[int]) -> str:
        """Text as the authors' decode gives it: `` <BOS> a dog barks. <EOS>``."""
        return clean_up(self._join([int(i) for i in ids]))

    def decode_encoder(self, ids: Sequence[int]) -> list[str]:
        """Texts between the [CLS] and [SEP] of encoder ids, one for each non-empty segment."""
        tokens = [self.wordpiece.id_to_token(int(i)) or "[UNK]" for i in ids]
        text = " ".join(tokens).replace(" ##", "").strip().replace("[CLS]", "[SEP]")
        return [clean_up(part) for part in text.split("[SEP]") if part]

    def misfit(self, encoder_rows: int, decoder_rows: int) -> str | None:
        """What does not fit networks with so many embeddings (0: there is none), or None."""
        for side, given, rows in (
            ("decoder", self.decoder_vocab_size, decoder_rows),
            ("encoder", self.encoder_vocab_size, encoder_rows),
        ):
            if rows and given != rows:
                return f"the {side}'s tokenizer has {given} tokens and the model {rows}"
        return None

    def save(self, folder: str | Path) -> None:
        """Write ``bert/vocab.txt``, ``gpt2/{vocab.json,merges.txt}`` and ``tokenizers.json``."""
        folder = Path(folder)
        (folder / "bert").mkdir(parents=True, exist_ok=True)
        (folder / "gpt2").mkdir(exist_ok=True)
        vocabulary = {i: token for token, i in self.wordpiece.get_vocab().items()}
        # a gap in the ids stays an empty line, so that no id moves
        text = "".join(f"{vocabulary.get(i, '')}\n" for i in range(max(vocabulary) + 1))
        (folder / "bert" / "vocab.txt").write_text(text, encoding="utf-8", newline="\n")
        self.bpe.model.save(str(folder / "gpt2"))
        options = {"lower_case": self.lower_case, "pad": PAD, "bos": BOS, "eos": EOS}
        (folder / OPTIONS_FILE).write_text(json_text(options, indent=2) + "\n")

    def _join(self, ids: list[int]) -> str:
        """Text of ``ids``; an added token is written as a space and its name."""
        base, parts, run = self.bpe.get_vocab_size(with_added_tokens=False), [], []
        for token in ids:
            if token < base:
                run.append(token)
                continue
            parts.append(self._plain(run))
            parts.append(f" {self.bpe.id_to_token(token)}")
            run = []
        return "".join([*parts, self._plain(run)])

    def _plain(self, ids: list[int]) -> str:
        return self.bpe.decode(ids, skip_special_tokens=False) if ids else ""


def load_tokenizers(
    folder: str | Path, gpt2_folder: str | Path | None = None, *, lower_case: bool | None = None
) -> Tokenizers:
    """Read a pair of vocabularies.

    ``folder`` holds ``vocab.txt`` (also ``bert_vocab.txt``, ``bert-base-cased-vocab.txt``) and
    ``vocab.json`` + ``merges.txt``, either directly or in sub-folders ``bert``/``encoder`` and
    ``gpt2``/``decoder``. The second pair of files may lie in a ``gpt2_folder`` of its own, as
    beside the weights of two public models. ``lower_case`` defaults to what the folder was saved
    with, else to what a public BERT's ``tokenizer_config.json`` says, else cased.

    Raises:
        FileNotFoundError: a vocabulary is missing.
        ValueError: a vocabulary lacks its special tokens or cannot be read.
    """
    folder = Path(folder)
    other = folder if gpt2_folder is None else Path(gpt2_folder)
    options = {}
    if (folder / OPTIONS_FILE).is_file():
        options = json.loads((folder / OPTIONS_FILE).read_text(encoding="utf-8"))
    if "special" in options:  # of other networks than the paper's
        from .pretrained_tokenizers import PretrainedTokenizers  # which builds on this module

        return PretrainedTokenizers.load(folder)
    vocabulary = _find(folder, ("bert", "encoder"), ENCODER_FILES)
    if lower_case is None:
        public = vocabulary.with_name("tokenizer_config.json")
        if not options and public.is_file():
            options = {"lower_case": json.loads(public.read_text()).get("do_lower_case", False)}
        lower_case = bool(options.get("lower_case", False))
    merges = _find(other, ("gpt2", "decoder"), ("merges.txt",))
    if not merges.with_name("vocab.json").is_file():
        raise FileNotFoundError(f"{merges.parent} has merges.txt but no vocab.json beside it")
    return Tokenizers(
        _read_wordpiece(vocabulary, lower_case),
        _read_bpe(merges.with_name("vocab.json"), merges),
        lower_case,
    )


def train_tokenizers(
    lines: Iterable[str],
    encoder_vocab_size: int = 2000,
    decoder_vocab_size: int = 2000,
    lower_case: bool = False,
) -> Tokenizers:
    """Learn a small pair of vocabularies from ``lines``, for models trained from scratch.

    The sizes are upper bounds; the decoder's includes 256 bytes and four special tokens.
    """
    if decoder_vocab_size < 260:
        raise ValueError(
            f"decoder_vocab_size must be at least 260 (256 bytes, 4 special), "
            f"got {decoder_vocab_size}"
        )
    lines = [line.strip() for line in lines]
    bpe = Tokenizer(models.BPE())
    _shape_bpe(bpe)
    bpe.train_from_iterator(
        lines,
        trainers.BpeTrainer(
            vocab_size=decoder_vocab_size - 3,
            special_tokens=[END_OF_TEXT],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    _add_ends(bpe)
    vocabulary = _learn_wordpiece(lines, encoder_vocab_size, lower_case)
    return Tokenizers(_build_wordpiece(vocabulary, lower_case), bpe, lower_case)


def _learn_wordpiece(lines: list[str], size: int, lower_case: bool) -> dict[str, int]:
    """A WordPiece vocabulary, the same every time."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    _shape_wordpiece(tokenizer, lower_case)
    normalizer, splitter = tokenizer.normalizer, tokenizer.pre_tokenizer
    assert normalizer is not None
    assert splitter is not None
    inner: set[str] = set()
    for chunk in {word for line in lines for word in line.split()}:
        for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(chunk)):
            inner.update(word[1:])
    # The trainer numbers inner characters in the order of a hash table, and ties between merges
    # follow the numbers; given as special tokens the characters have fixed ones.
    characters = [f"##{character}" for character in sorted(inner)]
    tokenizer.train_from_iterator(
        lines,
        trainers.WordPieceTrainer(
            vocab_size=size,
            special_tokens=[*WORDPIECE_SPECIAL, *characters],
            show_progress=False,
        ),
    )
    return tokenizer.get_vocab()


def _id(tokenizer: Tokenizer, token: str) -> int:
    number = tokenizer.token_to_id(token)
    assert number is not None, token
    return number


def _find(folder: Path, places: tuple[str, ...], names: tuple[str, ...]) -> Path:
    for place in (*(folder / p for p in places), folder):
        for name in names:
            if (place / name).is_file():
                return place / name
    looked = " or ".join(names)
    raise FileNotFoundError(
        f"no vocabulary in {folder}: expected {looked} there or in its sub-folder {places[0]}"
    )


def _read_wordpiece(path: Path, lower_case: bool) -> Tokenizer:
    vocabulary = {line.text: line.number - 1 for line in read_lines(path) if line.text}
    missing = [token for token in WORDPIECE_SPECIAL if token not in vocabulary]
    if missing:
        raise ValueError(f"{path} is no BERT vocabulary: it lacks {', '.join(missing)}")
    return _build_wordpiece(vocabulary, lower_case)


def _build_wordpiece(vocabulary: dict[str, int], lower_case: bool) -> Tokenizer:
    tokenizer = Tokenizer(
        models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100)
    )
    _shape_wordpiece(tokenizer, lower_case)
    _add_brackets(tokenizer)
    return tokenizer


def _shape_wordpiece(tokenizer: Tokenizer, lower_case: bool) -> None:
    """Cased text keeps its accents; Chinese characters stand alone either way."""
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=lower_case
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")


def _add_brackets(tokenizer: Tokenizer) -> None:
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in WORDPIECE_SPECIAL])
    ends = [(token, _id(tokenizer, token)) for token in ("[SEP]", "[CLS]")]
    tokenizer.post_processor = processors.BertProcessing(ends[0], ends[1])


def _read_bpe(vocabulary: Path, merges: Path) -> Tokenizer:
    try:
        pair = models.BPE.read_file(str(vocabulary), str(merges))
        tokenizer = Tokenizer(models.BPE(*pair, unk_token=END_OF_TEXT))
    except Exception as error:  # the Rust side raises a bare Exception
        raise ValueError(
            f"{vocabulary} and {merges.name} are no GPT-2 vocabulary: {why(error)}"
        ) from error
    if tokenizer.token_to_id(END_OF_TEXT) is None:
        raise ValueError(f"{vocabulary} is no GPT-2 vocabulary: it lacks {END_OF_TEXT}")
    _shape_bpe(tokenizer)
    _add_ends(tokenizer)
    return tokenizer


def _shape_bpe(tokenizer: Tokenizer) -> None:
    # every fragment gets a leading space, the first one of a text included
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()


def _add_ends(tokenizer: Tokenizer) -> None:
    """Add <PAD>, <BOS>, <EOS> in this order; white space around a literal one is dropped."""
    for token in (END_OF_TEXT, PAD, BOS, EOS):
        tokenizer.add_special_tokens([AddedToken(token, lstrip=True, rstrip=True, special=True)])
