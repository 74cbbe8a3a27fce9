"""Text encoders of the Room-to-Room agents, under the authors' parameter names.

``WordEncoder`` is EnvDrop's; ``DicEncoder`` is the published PREVALENT agent's, which reads the
text again at every step in the light of the current panorama.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ..runtime.transfer import upload
from .kernels import ragged_lstm, weight_precision
from .prevalent import Packing, PrevalentModel


class Words(NamedTuple):
    """Texts of a batch, cut to the longest."""

    ids: Tensor  # (B, T)
    padding: Tensor  # (B, T) True for padding
    lengths: Tensor  # (B,) on the CPU, where packing wants them

    @classmethod
    def of(cls, tokens: NDArray[np.int64], device: torch.device | str = "cpu") -> Words:
        """From 0-padded ids (B, L), or (B, M, L) of M texts each; a text ends at its first 0."""
        tokens = tokens.reshape(-1, tokens.shape[-1])
        empty = tokens == 0
        lengths = np.where(empty.any(axis=1), empty.argmax(axis=1), tokens.shape[1])
        cut = np.ascontiguousarray(tokens[:, : max(int(lengths.max(initial=0)), 1)])
        ids = upload(cut, device)
        return cls(ids, ids == 0, torch.from_numpy(lengths).clamp(min=1))

    def pick(self, rows: NDArray[np.int64]) -> Words:
        """The texts ``rows``, which the host knows: nothing is asked of the device."""
        there = upload(rows, self.ids.device)
        ids, padding = (part.index_select(0, there) for part in (self.ids, self.padding))
        return Words(ids, padding, self.lengths[torch.from_numpy(rows)])

    def cut(self) -> Words:
        """The same without the columns that are padding in every text."""
        longest = int(self.lengths.max())
        return Words(self.ids[:, :longest], self.padding[:, :longest], self.lengths)

    def packing(self) -> Packing:
        """Places of the words, found on the CPU."""
        batch, length = self.ids.shape
        there = torch.arange(length) < self.lengths.unsqueeze(1)
        places = there.flatten().nonzero().squeeze(1)
        return Packing(upload(places, self.ids.device), batch, length)


class Encoding(NamedTuple):
    context: Tensor  # (B, T, K), zeros or noise at padding
    hidden: Tensor  # (B, H) first state of the decoder
    cell: Tensor  # (B, H)


class Encoder(nn.Module):
    """What a roll-out asks of an encoder.

    ``sees_images``: run it at every step, with the panorama. ``context_size``: K. ``num_texts``: M,
    texts of an episode.
    """

    sees_images: bool = False
    context_size: int
    num_texts: int = 1

    def read(self, words: Words, panorama: Tensor | None, text: Tensor | None = None) -> Encoding:
        """Encode M texts of B episodes.

        Args:
            words: B M texts, those of an episode one after the other.
            panorama: (B, 36, F), which all texts of an episode are read with, or None.
            text: from `encode_text`, or None.

        Returns:
            A context for each text; the first state of an episode is the mean over its texts.
        """
        if self.num_texts == 1:
            return self(words, panorama, text)
        if panorama is not None:
            panorama = panorama.repeat_interleave(self.num_texts, dim=0)
        encoding: Encoding = self(words, panorama, text)
        hidden, cell = (
            states.unflatten(0, (-1, self.num_texts)).mean(dim=1)
            for states in (encoding.hidden, encoding.cell)
        )
        return Encoding(encoding.context, hidden, cell)

    def encode_text(self, words: Words) -> Tensor | None:
        """The part that depends on the words alone and may serve a whole episode, if any."""
        return None


def run_lstm(lstm: nn.LSTM, inputs: Tensor, words: Words) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs (B, T, K) and last states (B, K) twice, the backward direction first.

    They are computed in the type of the weights, see `weight_precision`.
    """
    device = inputs.device.type
    with weight_precision(device):
        inputs = inputs.to(lstm.all_weights[0][0].dtype)
        if device == "cpu" and inputs.dtype == torch.float32:
            return ragged_lstm(lstm, inputs, words.lengths)
        return packed_lstm(lstm, inputs, words)


def packed_lstm(lstm: nn.LSTM, inputs: Tensor, words: Words) -> tuple[Tensor, Tensor, Tensor]:
    """`run_lstm` by PyTorch's own packed sequences."""
    # Sorted here: PyTorch asks the device for the order that it has given to it.
    lengths, order = words.lengths.sort(descending=True)
    there, back = upload(order, inputs.device), upload(order.argsort(), inputs.device)
    packed = pack_padded_sequence(inputs.index_select(0, there), lengths, batch_first=True)
    packed_outputs, (hidden, cell) = lstm(packed)
    outputs, _ = pad_packed_sequence(packed_outputs, batch_first=True, total_length=inputs.shape[1])
    hidden, cell = (_backward_first(states.index_select(1, back)) for states in (hidden, cell))
    return outputs.index_select(0, back), hidden, cell


def _backward_first(states: Tensor) -> Tensor:
    return torch.cat(states.flip(0).unbind(0), dim=1) if len(states) > 1 else states[0]


class LSTMEncoder(Encoder):
    """The LSTM that three encoders share, and the way its states start the decoder.

    Args:
        input_size: width of its inputs.
        hidden_size: H, both directions together; also K.
        bidirectional: read in both directions.
        dropout: of inputs and context.
        summary: ``tanh`` of the last states or ``max`` over words (padding counts as zeros).
        zero_start: start the decoder at zeros.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        bidirectional: bool = True,
        dropout: float = 0.5,
        summary: str = "tanh",
        zero_start: bool = False,
    ) -> None:
        super().__init__()
        self.drop = nn.Dropout(dropout)
        width = hidden_size // 2 if bidirectional else hidden_size
        self.lstm = nn.LSTM(input_size, width, batch_first=True, bidirectional=bidirectional)
        self.encoder2decoder = nn.Linear(hidden_size, hidden_size)
        self.summary, self.zero_start = summary, zero_start
        self.context_size = hidden_size

    def encode(self, inputs: Tensor, words: Words) -> Encoding:
        """``inputs`` (B, T, input_size), not yet dropped out."""
        outputs, hidden, cell = run_lstm(self.lstm, self.drop(inputs), words)
        source = outputs.amax(dim=1) if self.summary == "max" else hidden
        start = torch.tanh(self.encoder2decoder(source))
        if self.zero_start:
            start, cell = torch.zeros_like(start), torch.zeros_like(cell)
        return Encoding(self.drop(outputs), start, cell)


class WordEncoder(LSTMEncoder):
    """Word embeddings below an LSTM, read once an episode.

    Args:
        vocab_size: V.
        word_size: width of the embeddings.
        hidden_size: H.
        options: of `LSTMEncoder`.
    """

    def __init__(self, vocab_size: int, word_size: int, hidden_size: int, **options) -> None:
        super().__init__(word_size, hidden_size, **options)
        self.embedding = nn.Embedding(vocab_size, word_size, padding_idx=0)

    def forward(
        self, words: Words, panorama: Tensor | None = None, text: Tensor | None = None
    ) -> Encoding:
        return self.encode(self.embedding(words.ids), words)


class BertEncoder(LSTMEncoder):
    """The pre-trained model, without gradient, below an LSTM of the decoder's width.

    Args:
        bert: the pre-trained model; the authors train only what is above it.
        hidden_size: H.
        word_size: width of a projection between the two, or None for none.
        include_vision: fuse the panorama, at every step.
        options: of `LSTMEncoder`.
    """

    def __init__(
        self,
        bert: PrevalentModel,
        hidden_size: int,
        word_size: int | None = None,
        *,
        include_vision: bool = True,
        **options,
    ) -> None:
        width = bert.config.hidden_size
        super().__init__(word_size or width, hidden_size, **options)
        self.bert = bert
        self.linear_in = nn.Linear(width, word_size) if word_size else None
        self.sees_images = include_vision

    def encode_text(self, words: Words) -> Tensor:
        with torch.no_grad():
            return encode_words(self.bert, words)

    def forward(
        self, words: Words, panorama: Tensor | None = None, text: Tensor | None = None
    ) -> Encoding:
        text = self.encode_text(words) if text is None else text
        if self.sees_images and panorama is not None:
            with torch.no_grad():
                text = fuse_words(self.bert, text, words, panorama)
        return self.encode(text if self.linear_in is None else self.linear_in(text), words)


class DicEncoder(Encoder):
    """The published agent's encoder: pre-trained model, reversed words, LSTM (Sec. 4.1).

    Args:
        bert: the pre-trained model; its ``update_cross`` decides whether gradients reach its image
            fusion, ``update_language`` whether they reach the text layers.
        hidden_size: H of the decoder.
        encoder_size: width of the LSTM in one direction.
        bidirectional: read in both directions.
        reverse_input: reverse the words of each text before the LSTM.
        top_lstm: False hands the words of the transformer to the decoder.
        dropout: of the context.
        include_vision: fuse the panorama, at every step.
    """

    def __init__(
        self,
        bert: PrevalentModel,
        hidden_size: int,
        encoder_size: int,
        *,
        bidirectional: bool = True,
        reverse_input: bool = True,
        top_lstm: bool = True,
        dropout: float = 0.4,
        include_vision: bool = True,
    ) -> None:
        super().__init__()
        width = bert.config.hidden_size
        self.bert = bert
        self.drop = nn.Dropout(dropout)
        self.lstm = nn.LSTM(width, encoder_size, batch_first=True, bidirectional=bidirectional)
        both = encoder_size * (2 if bidirectional else 1)
        # Only one pair is used; the authors' files hold both.
        direct = both if top_lstm else width
        self.encoder2decoder_ht = nn.Linear(direct, hidden_size)
        self.encoder2decoder_ct = nn.Linear(direct, hidden_size)
        self.encoder_lstm2decoder_ht = nn.Linear(both, hidden_size)
        self.encoder_lstm2decoder_ct = nn.Linear(both, hidden_size)
        self.reverse_input, self.top_lstm = reverse_input, top_lstm
        self.sees_images = include_vision
        self.context_size = both if top_lstm else width
        self.hidden_size = hidden_size

    @property
    def _text_is_trained(self) -> bool:
        config = self.bert.config
        fused = self.sees_images and not config.update_cross
        return torch.is_grad_enabled() and config.update_language and not fused

    def encode_text(self, words: Words) -> Tensor:
        """(B, T, d) of the text layers; no graph is built where no gradient would be used."""
        with torch.set_grad_enabled(self._text_is_trained):
            if not self.top_lstm:  # the decoder then sees the transformer's padding
                return self.bert.encode_text(words.ids, ~words.padding)
            return encode_words(self.bert, words)

    def forward(
        self, words: Words, panorama: Tensor | None = None, text: Tensor | None = None
    ) -> Encoding:
        """Encode ``words``; ``panorama`` (B, 36, F), ``text`` from `encode_text` or None."""
        states = self.encode_text(words) if text is None else text
        if self.sees_images and panorama is not None:
            trained = torch.is_grad_enabled() and self.bert.config.update_cross
            with torch.set_grad_enabled(trained):
                if self.top_lstm:
                    states = fuse_words(self.bert, states, words, panorama)
                else:
                    states = self.bert.fuse(states, ~words.padding, panorama)
        pooled = None if self.top_lstm else self.bert.pooler(states)
        if self.reverse_input:
            states = reverse_words(states, words)
        if pooled is not None:
            start = torch.tanh(self.encoder2decoder_ht(pooled))
            return Encoding(self.drop(states), start, self.encoder2decoder_ct(states[:, -1]))
        outputs, hidden, cell = run_lstm(self.lstm, states, words)
        start = torch.tanh(self.encoder_lstm2decoder_ht(hidden))
        if cell.shape[1] != self.hidden_size:
            cell = self.encoder_lstm2decoder_ct(cell)
        return Encoding(self.drop(outputs), start, cell)


def encode_words(bert: PrevalentModel, words: Words) -> Tensor:
    """(B, T, d) of the text layers, which do not compute the padding; it becomes zeros."""
    packing = words.packing()
    return packing.unpack(bert.encode_text(words.ids, ~words.padding, packing))


def fuse_words(bert: PrevalentModel, text: Tensor, words: Words, panorama: Tensor) -> Tensor:
    """``text`` (B, T, d) after attending to ``panorama`` (B, 36, F); the padding becomes zeros."""
    packing = words.packing()
    fused = bert.fuse(packing.pack(text), ~words.padding, panorama, packing)
    return packing.unpack(fused)


def reverse_words(states: Tensor, words: Words) -> Tensor:
    """Reverse the valid part of each row of ``states`` (B, T, d); padding becomes zeros."""
    lengths = (~words.padding).sum(dim=1, keepdim=True)  # (B, 1)
    index = lengths - 1 - torch.arange(states.shape[1], device=states.device)  # (B, T)
    picked = states.gather(1, index.clamp(min=0).unsqueeze(-1).expand_as(states))
    return picked.masked_fill((index < 0).unsqueeze(-1), 0.0)
