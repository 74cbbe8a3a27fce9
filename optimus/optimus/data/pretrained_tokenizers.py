"""The tokenizers of any two pre-trained networks, as their folders describe them.

The encoder's adds its own start and end; the decoder's text stands between a start and an end
token that the network knows, if it knows any. Saved are the two ``tokenizer.json`` and the special
ids, so that neither folder is needed again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer
from transformers import AutoTokenizer

from ..runtime.files import json_text, why
from .tokenizers import BOS, EOS, OPTIONS_FILE, PAD, Tokenizers, clean_up

SPARE_ROWS = 1024
"""A network may have so many more embeddings than its tokenizer has tokens: they are padded."""


@dataclass(frozen=True)
class SpecialIds:
    """Ids with a meaning; -1 where a tokenizer has none."""

    pad: int
    bos: int
    eos: int
    encoder_pad: int
    cls: int
    sep: int
    mask: int
    unk: int


@dataclass(frozen=True)
class PretrainedTokenizers(Tokenizers):
    """The tokenizers of two networks; ``wordpiece`` is the encoder's, ``bpe`` the decoder's.

    A start and an end token may be the same, as in GPT-2 and OPT.
    """

    special: SpecialIds = SpecialIds(*[-1] * 8)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of both tokenizers; equal after save and load."""
        content = [self.wordpiece.to_str(), self.bpe.to_str(), asdict(self.special)]
        return hashlib.sha256(json_text(content).encode()).hexdigest()

    @property
    def pad_id(self) -> int:
        return self.special.pad

    @property
    def bos_id(self) -> int:
        return self.special.bos

    @property
    def eos_id(self) -> int:
        return self.special.eos

    @property
    def encoder_pad_id(self) -> int:
        return self.special.encoder_pad

    @property
    def cls_id(self) -> int:
        return self.special.cls

    @property
    def sep_id(self) -> int:
        return self.special.sep

    @property
    def mask_id(self) -> int:
        return self.special.mask

    @property
    def unk_id(self) -> int:
        return self.special.unk

    def encode_decoder(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text between the start and the end token."""
        rows = self.bpe.encode_batch_fast([t.strip() for t in texts], add_special_tokens=False)
        return [[self.bos_id, *row.ids, self.eos_id] for row in rows]

    def decode(self, ids: Sequence[int], clean: bool = False) -> str:
        numbers = [int(i) for i in ids]
        numbers = numbers[1:] if numbers[:1] == [self.bos_id] else numbers
        if self.eos_id in numbers:
            numbers = numbers[: numbers.index(self.eos_id)]
        text = self._plain([i for i in numbers if i not in (self.pad_id, self.bos_id)])
        return (clean_up(text) if clean else text).strip()

    def decode_with_special(self, ids: Sequence[int]) -> str:
        return self._plain([int(i) for i in ids])

    def decode_encoder(self, ids: Sequence[int]) -> list[str]:
        """Texts between the separators of encoder ids, one for each non-empty segment."""
        parts: list[list[int]] = [[]]
        for number in map(int, ids):
            if number in (self.cls_id, self.sep_id):
                parts.append([])
            elif number != self.encoder_pad_id:
                parts[-1].append(number)
        return [self.wordpiece.decode(part) for part in parts if part]

    def misfit(self, encoder_rows: int, decoder_rows: int) -> str | None:
        """Networks may have `SPARE_ROWS` more rows than there are tokens; see `Tokenizers`."""
        for side, given, rows in (
            ("decoder", self.decoder_vocab_size, decoder_rows),
            ("encoder", self.encoder_vocab_size, encoder_rows),
        ):
            if rows and not given <= rows < given + SPARE_ROWS:
                return f"the {side}'s tokenizer has {given} tokens and the model {rows}"
        return None

    def save(self, folder: str | Path) -> None:
        """Write ``encoder/tokenizer.json``, ``decoder/tokenizer.json`` and ``tokenizers.json``."""
        folder = Path(folder)
        for name, tokenizer in (("encoder", self.wordpiece), ("decoder", self.bpe)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            tokenizer.save(str(folder / name / "tokenizer.json"))
        content = json_text({"special": asdict(self.special)}, indent=2)
        (folder / OPTIONS_FILE).write_text(content + "\n")

    @classmethod
    def load(cls, folder: str | Path) -> PretrainedTokenizers:
        """Read what ``save`` wrote.

        Raises:
            ValueError: a file is missing or damaged.
        """
        folder = Path(folder)
        try:
            special = SpecialIds(**json.loads((folder / OPTIONS_FILE).read_text())["special"])
            left, right = (
                Tokenizer.from_file(str(folder / name / "tokenizer.json"))
                for name in ("encoder", "decoder")
            )
        except Exception as error:  # the Rust side raises a bare Exception
            raise ValueError(
                f"{folder} holds no whole pair of tokenizers ({why(error)})"
            ) from error
        return cls(left, right, special=special)


def read_pretrained_tokenizers(encoder: str | Path, decoder: str | Path) -> PretrainedTokenizers:
    """The tokenizers of the folders of an ``encoder`` and of a causal ``decoder``.

    The decoder's special tokens are its own. Where it has no start token, its end token stands at
    both ends, as between the documents it was trained on; ends that do not exist are added, and so
    is a padding that is none of the two, for it must not count as a target.

    Raises:
        ValueError: a folder has no tokenizer that can be read, or the encoder's has no padding.
    """
    left, right = _read(encoder), _read(decoder)
    wordpiece, bpe = _backend(left, encoder), _backend(right, decoder)
    eos = right.eos_token_id if right.eos_token_id is not None else _add(bpe, EOS)
    known_bos = right.bos_token_id if right.eos_token_id is not None else _add(bpe, BOS)
    bos = eos if known_bos is None else known_bos
    pad = right.pad_token_id
    if pad is None or pad in (bos, eos):
        pad = _add(bpe, PAD)
    if left.pad_token_id is None:
        raise ValueError(f"--model.init {encoder}: the encoder's tokenizer has no padding token")
    ends = wordpiece.encode("").ids
    special = SpecialIds(
        pad,
        bos,
        eos,
        left.pad_token_id,
        ends[0] if ends else -1,
        ends[-1] if ends else -1,
        *(-1 if i is None else i for i in (left.mask_token_id, left.unk_token_id)),
    )
    return PretrainedTokenizers(wordpiece, bpe, special=special)


def _read(folder: str | Path) -> Any:
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # whatever the many kinds of tokenizers raise
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else repr(error)
        raise ValueError(
            f"--model.init {folder}: there is no tokenizer that can be read ({reason}); put the "
            "model's tokenizer.json and tokenizer_config.json there"
        ) from error


def _backend(tokenizer: Any, folder: str | Path) -> Tokenizer:
    """A copy without the padding and the cut that some files ask for."""
    inner = getattr(tokenizer, "backend_tokenizer", None)
    if inner is None:
        raise ValueError(
            f"--model.init {folder}: {type(tokenizer).__name__} has no tokenizer.json; convert it "
            "to one"
        )
    inner = Tokenizer.from_str(inner.to_str())
    inner.no_padding()
    inner.no_truncation()
    return inner


def _add(tokenizer: Tokenizer, token: str) -> int:
    tokenizer.add_special_tokens([AddedToken(token, special=True)])
    number = tokenizer.token_to_id(token)
    assert number is not None
    return number
