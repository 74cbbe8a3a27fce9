"""From latent vectors to token ids, and arithmetic on latent vectors (Sec. 4.2).

Decoding keeps keys and values of the tokens so far, with the latent as the first entry, and runs
the head on the last position only; greedy ids equal those of running the whole prefix every time.
On a GPU their memory has a fixed size, and the host asks only now and then whether all sentences
have ended; on request a step is recorded once and replayed.
"""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import Tensor

from .models.decoder import DecoderState
from .models.vae import OptimusModel
from .runtime.options import at_least, finite_number, option, require, require_choice, whole_number

ASK_EVERY = 16
"""Tokens after which the host asks a GPU whether all sentences have ended."""
Item = TypeVar("Item", bound=Hashable)
Strategy = Literal["greedy", "sample", "beam"]


@dataclass(frozen=True)
class Sampling:
    """How a sentence is made from a latent vector."""

    strategy: Strategy = "greedy"
    """greedy takes the best token, sample draws one, beam keeps --decoding.num-beams hypotheses."""
    temperature: float = 1.0
    """Divides the logits before sampling."""
    top_k: int = 0
    """Sample among the k best tokens, and those that are as good as the last of them; 0 is off."""
    top_p: float = 1.0
    """Sample among the best tokens that hold this share of the probability; 0 and 1 are off."""
    num_beams: int = 4
    """Hypotheses of beam search."""
    length_penalty: float = 1.0
    """Exponent of the length that divides a hypothesis's score; 0 favours short sentences."""
    max_new_tokens: int = 128
    """Longest sentence in tokens, EOS counted."""
    clean: bool = False
    """Close the gaps of tokenised English: "do not know ." becomes "don't know.". Only to be read:
    scores compare the text as it is."""
    recorded: bool = False
    """Record a step of greedy or sample on a GPU once as a CUDA graph and replay it: less work for
    the host. `make gpu` checks and times it."""

    def __post_init__(self) -> None:
        require_choice("--decoding.strategy", self.strategy, Strategy)
        for name in ("temperature", "length_penalty", "top_p"):
            finite_number(getattr(self, name), option(name, "decoding"))
        for name in ("clean", "recorded"):
            if not isinstance(value := getattr(self, name), bool):
                raise TypeError(f"{option(name, 'decoding')} must be True or False, got {value!r}")
        require(
            self.temperature > 0,
            f"--decoding.temperature must be positive, got {self.temperature}; use "
            "--decoding.strategy greedy for the limit 0",
        )
        require(0 <= self.top_p <= 1, f"--decoding.top-p must be in [0, 1], got {self.top_p}")
        at_least(self, "decoding", top_k=0, num_beams=1, max_new_tokens=1)


def check_used(sampling: Sampling, default: Sampling | None = None) -> None:
    """Raise ``ValueError`` for an option that was changed and that the strategy does not use.

    Args:
        sampling: what was asked for.
        default: what a command has where nothing is asked for.
    """
    default = default or Sampling()
    off = {"temperature": (1,), "top_k": (0,), "top_p": (0, 1)}
    beams = {"num_beams": (1, Sampling.num_beams), "length_penalty": (1,)}
    for strategy, options in (("sample", off), ("beam", beams)):
        for name, unused in options.items():
            value = getattr(sampling, name)
            require(
                sampling.strategy == strategy or value in (*unused, getattr(default, name)),
                f"{option(name, 'decoding')} {value} counts with --decoding.strategy {strategy} "
                f"only, got {sampling.strategy}; give that strategy, or {unused[-1]} for it",
            )


def filter_logits(logits: Tensor, top_k: int = 0, top_p: float = 0.0) -> Tensor:
    """Set what must not be drawn to -inf in ``logits`` (..., V).

    ``top_k`` > 0 removes logits strictly below the k-th largest, ties stay. ``top_p`` > 0 then
    removes, from the largest down, every token after the one whose cumulative probability first
    exceeds ``top_p``; the best token always stays. Deviation: at ``top_p`` = 1 the authors remove
    tokens whose cumulative probability rounds to more than 1; here nothing is removed or sorted.
    """
    if top_k > 0:
        least = logits.topk(min(top_k, logits.shape[-1]), dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if 0 < top_p < 1:  # at 1 only rounding could remove anything
        ordered, index = logits.sort(dim=-1, descending=True)
        over = ordered.softmax(dim=-1).cumsum(dim=-1) > top_p
        remove = over.roll(1, dims=-1)
        remove[..., 0] = False
        logits = logits.masked_fill(remove.scatter(-1, index, remove), -torch.inf)
    return logits


@torch.no_grad()
def generate(
    model: OptimusModel,
    latents: Tensor | None,
    sampling: Sampling | None = None,
    *,
    num_sequences: int = 1,
    batch_size: int = 64,
    generator: torch.Generator | None = None,
    static: bool | None = None,
) -> list[list[int]]:
    """Decode ``latents`` (N, Z) into N lists of ids, BOS first and, where it came, EOS last.

    Args:
        model: in evaluation mode.
        latents: sentence vectors; None decodes ``num_sequences`` sentences without any.
        sampling: how tokens are chosen and how many at most.
        num_sequences: N where ``latents`` is None.
        batch_size: sentences decoded side by side.
        generator: source of randomness of ``sample``, on the model's device.
        static: whether greedy decoding and sampling keep a memory of fixed size, where the decoder
            can; by default on a CUDA device only, since a CPU would lose time with it.
    """
    sampling = sampling or Sampling()
    whole_number(batch_size, "batch_size", 1)
    whole_number(num_sequences, "num_sequences")
    if latents is None:
        chunks = [
            (None, min(batch_size, num_sequences - i)) for i in range(0, num_sequences, batch_size)
        ]
    else:
        latents = latents.to(model.device)
        chunks = [(part, len(part)) for part in latents.split(batch_size) if len(part)]
    limit = min(sampling.max_new_tokens, model.decoder.max_tokens - 1)
    static = model.device.type == "cuda" if static is None else static
    static = static and model.decoder.can_be_static(limit)
    sentences: list[list[int]] = []
    for part, count in chunks:
        if sampling.strategy == "beam":
            sentences += _beam_search(model, part, count, sampling, limit)
        elif static:
            sentences += _extend_static(model, part, count, sampling, limit, generator)
        else:
            sentences += _extend(model, part, count, sampling, limit, generator)
    return sentences


def _begin(model: OptimusModel, count: int, limit: int) -> tuple[Tensor, Tensor]:
    """First tokens (N,), all BOS, and N sentences (N, limit + 1) of them and EOS only."""
    tokens = torch.full((count,), model.config.bos_token_id, device=model.device)
    out = torch.full((count, limit + 1), model.config.eos_token_id, device=model.device)
    out[:, 0] = tokens
    return tokens, out


def _next_logits(model: OptimusModel, state: DecoderState, tokens: Tensor) -> Tensor:
    """Logits (B, V) after one more token (B,) of each sentence, in fp32."""
    states = model.decoder.advance(state, tokens[:, None])
    return model.decoder.head(states[:, -1]).float()


def _mark_failed(out: Tensor, logits: Tensor) -> None:
    """Begin those of ``out`` (N, L) with -1 whose first ``logits`` (N, V) are NaN or infinite.

    Without asking the host; `_cut` raises where it finds them.
    """
    out[:, 0].masked_fill_(~logits.isfinite().all(dim=1), -1)


def _extend(
    model: OptimusModel,
    latents: Tensor | None,
    count: int,
    sampling: Sampling,
    limit: int,
    generator: torch.Generator | None,
) -> list[list[int]]:
    """Greedy decoding or sampling; a sentence that has ended leaves the batch."""
    eos, state = model.config.eos_token_id, model.decoder.start(latents)
    tokens, out = _begin(model, count, limit)
    rows = torch.arange(count, device=tokens.device)  # sentence of each row of the batch
    for position in range(1, limit + 1):
        logits = _next_logits(model, state, tokens)
        if position == 1:
            _mark_failed(out, logits)
        tokens = _choose(logits, sampling, generator)
        out[rows, position] = tokens
        going = (tokens != eos).nonzero()[:, 0]
        if len(going) == 0:
            break
        if len(going) < len(rows):
            state.select(going)
            rows, tokens = rows[going], tokens[going]
    return [_cut(row, eos) for row in out.tolist()]


def _extend_static(
    model: OptimusModel,
    latents: Tensor | None,
    count: int,
    sampling: Sampling,
    limit: int,
    generator: torch.Generator | None,
) -> list[list[int]]:
    """``_extend`` in steps of one shape; a sentence that has ended stays, with EOS to follow."""
    eos, state = model.config.eos_token_id, model.decoder.start_static(latents, limit)
    tokens, out = _begin(model, count, limit)
    ended, column = torch.zeros_like(tokens, dtype=torch.bool), torch.ones_like(state.place)

    def step(first: bool = False) -> None:
        states = model.decoder.advance_static(state, tokens[:, None])
        logits = model.decoder.head(states[:, -1]).float()
        if first:
            _mark_failed(out, logits)
        chosen = _choose(logits, sampling, generator)
        tokens.copy_(chosen.masked_fill(ended, eos))
        out.index_copy_(1, column, tokens[:, None])
        ended.logical_or_(tokens == eos)
        column.add_(1)

    step(first=True)  # makes the memory, and the copies of weights that autocast keeps
    again: Callable[[], None] = step
    if sampling.recorded and tokens.is_cuda and limit > 1:
        again = _recorded(step, generator)
    for position in range(2, limit + 1):
        again()
        if position % ASK_EVERY == 0 and bool(ended.all()):
            break
    return [_cut(row, eos) for row in out.tolist()]


def _recorded(step: Callable[[], None], generator: torch.Generator | None) -> Callable[[], None]:
    """What does ``step``, which has run once, as one launch of a CUDA graph."""
    graph = torch.cuda.CUDAGraph()
    if generator is not None:
        graph.register_generator_state(generator)
    # Records, and computes nothing; another thread may pin the memory of a batch meanwhile.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        step()
    return graph.replay


def _choose(logits: Tensor, sampling: Sampling, generator: torch.Generator | None) -> Tensor:
    """One token per row of ``logits`` (B, V)."""
    if sampling.strategy == "greedy" or sampling.top_k == 1:
        return logits.argmax(dim=-1)
    if sampling.temperature != 1:
        logits = logits / sampling.temperature
    share = filter_logits(logits, sampling.top_k, sampling.top_p).softmax(dim=-1)
    # By the inverse of the cumulative distribution: torch.multinomial draws a number per token of
    # the vocabulary, this draws one per sentence. A share of 0 is never hit.
    height = share.cumsum(dim=-1, dtype=torch.float64)
    drawn = torch.rand(len(share), 1, dtype=torch.float64, device=share.device, generator=generator)
    token = torch.searchsorted(height, drawn * height[:, -1:], right=True)[:, 0]
    return token.clamp(max=share.shape[-1] - 1)


def _cut(ids: list[int], eos: int) -> list[int]:
    if ids[0] < 0:
        raise ValueError(
            "the decoder's scores are NaN or infinite: a latent is too large for its arithmetic, "
            "or its weights are damaged"
        )
    return ids[: ids.index(eos, 1) + 1] if eos in ids[1:] else ids


def _beam_search(
    model: OptimusModel, latents: Tensor | None, count: int, sampling: Sampling, limit: int
) -> list[list[int]]:
    """The best sentence of each latent by log-probability / length ** length_penalty.

    Ended hypotheses stay in the beam with their score and only EOS to follow, so that a search
    ends when all ``num_beams`` of every sentence have ended.
    """
    beams, eos = sampling.num_beams, model.config.eos_token_id
    state = model.decoder.start(latents)
    tokens, out = _begin(model, count, 0)  # (rows, length), one column a token
    device = tokens.device
    ask_every = 1 if device.type == "cpu" else ASK_EVERY
    score = torch.zeros(count, 1, device=device)  # (B, beams so far)
    ended = torch.zeros(count, 1, dtype=torch.bool, device=device)
    length = torch.zeros(count, 1, device=device)
    for position in range(1, limit + 1):
        logits = _next_logits(model, state, tokens)
        if position == 1:
            _mark_failed(out, logits)
        logp = logits.log_softmax(dim=-1)
        vocabulary = logp.shape[-1]
        stay = torch.full_like(logp[:1], -torch.inf)
        stay[:, eos] = 0.0
        logp = torch.where(ended.view(-1, 1), stay, logp).view(count, -1, vocabulary)
        grown = length + (~ended).float()
        total = score[..., None] + logp
        ranked = (total / grown.clamp(min=1)[..., None] ** sampling.length_penalty).flatten(1)
        best = ranked.topk(min(beams, ranked.shape[1]), dim=1).indices
        parent, token = best // vocabulary, best % vocabulary
        score = total.flatten(1).gather(1, best)
        length = grown.gather(1, parent)
        ended = ended.gather(1, parent) | (token == eos)
        first = torch.arange(count, device=device)[:, None] * (len(out) // count)
        rows = (first + parent).flatten()
        tokens = token.flatten()
        out = torch.cat([out[rows], tokens[:, None]], dim=1)
        state.select(rows)
        if position % ask_every == 0 and bool(ended.all()):
            break
    final = score / length.clamp(min=1) ** sampling.length_penalty
    chosen = torch.arange(count, device=device) * final.shape[1] + final.argmax(dim=1)
    return [_cut(row, eos) for row in out[chosen].tolist()]


def interpolate(
    source: Tensor,
    target: Tensor,
    num_steps: int,
    steps: Literal["dataset", "interactive"] = "dataset",
) -> Tensor:
    """Points on the line from ``source`` (Z,) to ``target`` (Z,), ends included.

    ``dataset`` takes ``num_steps`` steps, hence ``num_steps`` + 1 points; ``interactive`` is the
    authors' other convention, one step and one point more.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}")
    count = num_steps + (steps == "interactive")
    weight = torch.arange(count + 1, dtype=source.dtype, device=source.device) / count
    return source + (target - source) * weight[:, None]


def analogy(source: Tensor, target: Tensor, query: Tensor, degree: float = 1.0) -> Tensor:
    """``query`` moved as ``target`` is from ``source``: query + degree * (target - source)."""
    return query + degree * (target - source)


def unique(items: Iterable[Item]) -> list[Item]:
    """``items`` without repetitions, in the order of their first appearance."""
    return list(dict.fromkeys(items))
