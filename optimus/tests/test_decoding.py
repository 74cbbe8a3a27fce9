import numpy as np
import pytest
import torch
from factories import close, recorded_model, tiny_model

from optimus.decoding import Sampling, analogy, filter_logits, generate, interpolate, unique
from optimus.runtime.counting import count

INJECTIONS = {"": None, "_mem": "memory", "_emb": "embedding"}


def plain_greedy(model, latent, limit):
    """The authors' loop: one sentence, the whole prefix again for every token."""
    ids = [model.config.bos_token_id]
    while len(ids) <= limit and ids[-1] != model.config.eos_token_id:
        with torch.no_grad():
            logits = model.decoder.logits(torch.tensor([ids]), latent)
        ids.append(int(logits[0, -1].argmax()))
    return ids


@pytest.mark.golden
def test_greedy_ids_are_the_authors_for_every_injection(golden_kind, device):
    folder = golden_kind("vae_trained", "generation.npz")
    recorded = np.load(folder / "generation.npz")
    for suffix, inject in INJECTIONS.items():
        cases = [name for name in recorded if name.startswith(f"greedy_ids{suffix}/")]
        model = recorded_model(folder, inject=inject).to(device)
        found = generate(
            model, torch.from_numpy(recorded["z"]), Sampling(max_new_tokens=10**6), batch_size=5
        )
        for case in cases:
            ours, theirs = found[int(case.split("/")[1])], recorded[case].tolist()
            assert ours[: len(theirs)] == theirs, case
            # a recorded row without an end mark stopped at a length limit of theirs
            assert len(ours) == len(theirs) or model.config.eos_token_id not in theirs, case


@pytest.mark.golden
def test_filtered_logits_are_the_authors(golden_kind):
    folder = golden_kind("vae_trained", "generation.npz")
    recorded = np.load(folder / "generation.npz")
    logits = torch.from_numpy(recorded["filter_in"])
    for case in (name for name in recorded if name.startswith("filter_k")):
        top_k, top_p = case.removeprefix("filter_k").split("_p")
        found = filter_logits(logits, int(top_k), float(top_p))
        expected = torch.from_numpy(recorded[case])
        if float(top_p) < 1:
            assert torch.equal(found, expected), case
            continue
        # At 1 they lose the tokens whose cumulative probability rounds to more than 1.
        lost = found.isfinite() & ~expected.isfinite()
        assert (logits.softmax(dim=-1) * lost).sum(dim=-1).max() < 1e-5


@pytest.mark.golden
def test_latent_arithmetic_is_the_authors(golden_kind):
    folder = golden_kind("vae_trained", "generation.npz")
    recorded = np.load(folder / "generation.npz")
    z = torch.from_numpy(recorded["z"])
    points = torch.from_numpy(recorded["interp_z"])
    close(interpolate(points[0], points[-1], len(points) - 2, "interactive"), points)
    close(interpolate(points[0], points[-1], len(points) - 1), points)
    triples = [(a, b, c) for a in range(len(z)) for b in range(len(z)) for c in range(len(z))]
    cases = [name for name in recorded if name.startswith("analogy_z_")]
    found = {
        triple
        for triple in triples
        if all(
            torch.allclose(
                analogy(*(z[i] for i in triple), float(case.removeprefix("analogy_z_"))),
                torch.from_numpy(recorded[case][0]),
                atol=1e-4,
            )
            for case in cases
        )
    }
    assert found, "no three recorded latents give the recorded analogies"


@pytest.mark.parametrize("inject", ["memory", "embedding", "both"])
@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_greedy_decoding_equals_running_the_whole_prefix(inject, batch_size):
    model = tiny_model(inject=inject)
    latents = torch.randn(8, 6) * 3
    found = generate(model, latents, Sampling(max_new_tokens=20), batch_size=batch_size)
    assert found == [plain_greedy(model, z[None], 20) for z in latents]


@pytest.mark.parametrize("inject", ["memory", "embedding", "both"])
def test_a_memory_of_fixed_size_gives_the_same_tokens(inject):
    model, latents = tiny_model(inject=inject), torch.randn(9, 6) * 3
    for limit in (1, 3, 30):
        options = Sampling(max_new_tokens=limit)
        found = [generate(model, latents, options, batch_size=4, static=s) for s in (True, False)]
        assert found[0] == found[1]
    longest = Sampling(max_new_tokens=10**6)
    assert generate(model, latents, longest, static=True) == generate(model, latents, longest)
    with torch.autocast("cpu", torch.bfloat16):
        found = [generate(model, latents, options, static=static) for static in (True, False)]
    same = [one[1] == other[1] for one, other in zip(*found, strict=True)]
    assert sum(same) > 5  # in bf16 the better of two near tokens may be another


def test_a_memory_of_fixed_size_draws_the_same_tokens_until_a_sentence_has_ended():
    model, options = tiny_model(), Sampling("sample", temperature=2.0, top_k=9, max_new_tokens=12)
    model.decoder.gpt2.transformer.wte.weight.data[model.config.eos_token_id] = 0
    found = [
        generate(
            model, torch.ones(3, 6), options, generator=torch.Generator().manual_seed(1), static=s
        )
        for s in (True, False)
    ]
    first = min(len(ids) for ids in found[1])
    assert first > 3
    assert [ids[:first] for ids in found[0]] == [ids[:first] for ids in found[1]]


@pytest.mark.parametrize("strategy", ["greedy", "sample"])
def test_a_step_in_a_memory_of_fixed_size_asks_the_host_nothing(strategy):
    model, options = tiny_model(), Sampling(strategy, top_k=5, max_new_tokens=14)
    model.decoder.gpt2.transformer.wte.weight.data[model.config.eos_token_id] = 0
    found = count(lambda: generate(model, torch.ones(3, 6), options, static=True))
    assert found.waits == {"decoding.py:_extend_static": 1}  # the tokens themselves
    assert "where" not in found.kernels  # a mask that each layer would make anew
    shapes = count(lambda: generate(model, torch.ones(3, 6), options, static=False))
    assert shapes.waits["decoding.py:_extend"] > 10


@pytest.mark.gpu
@pytest.mark.parametrize("strategy", ["greedy", "sample"])
def test_a_recorded_step_gives_the_tokens_of_one_that_is_not(strategy):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    model, latents = tiny_model().cuda(), torch.randn(5, 6) * 3
    found = [
        generate(
            model,
            latents,
            Sampling(strategy, top_k=1, max_new_tokens=20, recorded=recorded),
            batch_size=3,
            static=static,
        )
        for static, recorded in ((False, False), (True, False), (True, True))
    ]
    assert found[0] == found[1] == found[2]


def test_a_sentence_ends_at_its_own_eos_or_at_the_bound():
    model = tiny_model()
    latents = torch.randn(16, 6) * 3
    sentences = generate(model, latents, Sampling(strategy="sample", max_new_tokens=12))
    eos = model.config.eos_token_id
    for ids in sentences:
        assert ids[0] == model.config.bos_token_id
        assert eos not in ids[1:-1]
        assert ids[-1] == eos or len(ids) == 13
    assert len({len(ids) for ids in sentences}) > 1


def test_the_bound_never_exceeds_the_positions():
    model = tiny_model()
    model.decoder.gpt2.transformer.wte.weight.data[model.config.eos_token_id] = 0
    ids = generate(model, torch.zeros(1, 6), Sampling(max_new_tokens=1000))[0]
    assert len(ids) == model.decoder.max_tokens


def test_sampling_from_one_candidate_is_greedy():
    model, latents = tiny_model(), torch.randn(4, 6)
    sample = Sampling(strategy="sample", top_k=1, max_new_tokens=10)
    nucleus = Sampling(strategy="sample", top_p=1e-9, max_new_tokens=10)
    greedy = generate(model, latents, Sampling(max_new_tokens=10))
    assert generate(model, latents, sample) == generate(model, latents, nucleus) == greedy


def test_the_same_generator_gives_the_same_sentences():
    model, latents = tiny_model(), torch.randn(4, 6)
    options = Sampling(strategy="sample", temperature=2.0, max_new_tokens=10)
    runs = [
        generate(model, latents, options, generator=torch.Generator().manual_seed(seed))
        for seed in (3, 3, 4)
    ]
    assert runs[0] == runs[1] != runs[2]


def test_ties_at_the_kth_place_stay_and_the_best_token_too():
    logits = torch.tensor([[3.0, 1.0, 1.0, 0.0]])
    assert filter_logits(logits, top_k=2).isfinite().tolist() == [[True, True, True, False]]
    assert filter_logits(logits, top_p=1e-6).isfinite().tolist() == [[True, False, False, False]]
    assert filter_logits(logits, top_k=100).isfinite().all()


def test_one_beam_is_greedy_and_more_beams_are_never_worse():
    model, latents = tiny_model(spread=3.0), torch.randn(6, 6)

    def score(sentences):
        values = []
        for ids, z in zip(sentences, latents, strict=True):
            values.append(-model.decoder.nll(torch.tensor([ids]), z[None]).item())
        return torch.tensor(values)

    greedy = generate(model, latents, Sampling(max_new_tokens=6))
    options = {"strategy": "beam", "max_new_tokens": 6, "length_penalty": 0.0}
    assert generate(model, latents, Sampling(num_beams=1, **options)) == greedy
    wide = generate(model, latents, Sampling(num_beams=50, **options), batch_size=4)
    assert (score(wide) >= score(greedy) - 1e-4).all()


def test_a_beam_over_everything_finds_the_best_short_sentence():
    model = tiny_model(spread=3.0)
    latent = torch.randn(1, 6)
    options = Sampling(strategy="beam", num_beams=2600, length_penalty=0.0, max_new_tokens=2)
    found = generate(model, latent, options)[0]
    bos, eos, size = model.config.bos_token_id, model.config.eos_token_id, 50
    pairs = torch.tensor([[bos, a, b] for a in range(size) for b in range(size) if a != eos])
    with torch.no_grad():
        logp = model.decoder.logits(pairs, latent.expand(len(pairs), -1)).log_softmax(dim=-1)
    scores = logp[:, 0].gather(1, pairs[:, 1:2])[:, 0] + logp[:, 1].gather(1, pairs[:, 2:])[:, 0]
    best, single = scores.max().item(), logp[0, 0, eos].item()
    expected = [bos, eos] if single > best else pairs[scores.argmax()].tolist()
    assert found == expected


def test_a_language_model_is_sampled_without_latents():
    model = tiny_model(inject="none")
    options = Sampling(strategy="sample", max_new_tokens=5)
    assert len(generate(model, None, options, num_sequences=7, batch_size=3)) == 7


def test_interpolation_has_both_ends_in_both_conventions():
    first, last = torch.zeros(3), torch.ones(3)
    dataset, interactive = interpolate(first, last, 4), interpolate(first, last, 4, "interactive")
    assert (len(dataset), len(interactive)) == (5, 6)
    for points in (dataset, interactive):
        assert torch.equal(points[0], first)
        assert torch.equal(points[-1], last)


def test_repetitions_are_dropped_in_order():
    assert unique(["b", "a", "b", "c", "a"]) == ["b", "a", "c"]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("strategy", "beem"),
        ("temperature", 0),
        ("top_p", 1.5),
        ("top_k", -1),
        ("num_beams", 0),
        ("max_new_tokens", 0),
    ],
)
def test_wrong_settings_are_named(option, value):
    with pytest.raises(ValueError, match=option.replace("_", "-")):
        Sampling(**{option: value})


def test_tokens_are_drawn_in_proportion_to_their_probability():
    from optimus.decoding import _choose

    logits = torch.tensor([0.5, 0.25, 0.0, 0.25]).log().expand(40000, -1)
    drawn = _choose(logits, Sampling(strategy="sample"), None)
    share = torch.bincount(drawn, minlength=4) / len(drawn)
    torch.testing.assert_close(share, torch.tensor([0.5, 0.25, 0.0, 0.25]), atol=0.02, rtol=0)
    sharp = _choose(logits, Sampling(strategy="sample", temperature=0.5), None)
    assert (sharp == 0).float().mean() == pytest.approx(2 / 3, abs=0.02)
