"""Any encoder of AutoModel and any causal model with a cache, on tiny random networks."""

import importlib.util
import math
import multiprocessing

import pytest
import torch
import torch.distributed as dist
from factories import tiny_model, tiny_networks, tiny_pretrained
from torch.distributions import Normal
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from transformers import AutoConfig

from optimus.config import ModelOptions
from optimus.decoding import Sampling, generate
from optimus.models.decoder import Gpt2Decoder
from optimus.models.label_control import LabelControl
from optimus.models.pretrained import (
    PretrainedDecoder,
    find_encoder_misfit,
    find_misfit,
    set_dropout,
    without_lora,
)
from optimus.models.vae import OptimusModel, importance_scores
from optimus.objectives import Objective
from optimus.tasks.pretrained import adapt

ENCODERS = ("bert", "roberta", "distilbert", "mpnet", "modernbert", "deberta", "deberta-v2")
DECODERS = (
    "gpt2",
    "llama",
    "llama-untied",
    "qwen2",
    "opt",
    "opt-projected",
    "gpt_neox",
    "gemma",
    "gemma2",
)


def batch(model, lengths=(9, 7, 4), seed=0):
    """Encoder and decoder ids of sentences of ``lengths``, right-padded."""
    noise, config = torch.Generator().manual_seed(seed), model.config
    encoder = torch.randint(5, 50, (len(lengths), max(lengths)), generator=noise)
    decoder = torch.randint(5, 50, (len(lengths), max(lengths)), generator=noise)
    decoder[:, 0] = config.bos_token_id
    for row, end in enumerate(lengths):
        encoder[row, end:] = config.encoder_pad_token_id
        decoder[row, end - 1], decoder[row, end:] = config.eos_token_id, config.pad_token_id
    return encoder, decoder


@pytest.fixture(params=DECODERS)
def decoding(request):
    return tiny_pretrained("bert", request.param)


@pytest.fixture(params=ENCODERS)
def encoding(request):
    return tiny_pretrained(request.param, "llama")


def test_gradients_arrive_at_the_encoder_and_at_the_connectors(decoding):
    model = decoding.train()
    model(*batch(model), beta=1.0).total.mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
    for part in (model.encoder.head, model.decoder.memory, model.decoder.embedding):
        assert part.weight.grad.abs().max() > 0
    assert model.encoder.network.get_input_embeddings().weight.grad.abs().max() > 0


def test_every_encoder_is_trained_and_ignores_padding(encoding):
    model = encoding
    ids, decoder_ids = batch(model)
    mean, logvar = model.encode(ids)
    for row, sentence in enumerate(ids):
        alone = model.encode(sentence[sentence != model.config.encoder_pad_token_id][None])
        torch.testing.assert_close(alone.mean[0], mean[row], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(alone.logvar[0], logvar[row], rtol=1e-4, atol=1e-5)
    model.train()(ids, decoder_ids).total.mean().backward()
    for name, parameter in model.encoder.named_parameters():
        assert parameter.grad is not None, name


@pytest.mark.parametrize("pooling", ["pooler", "cls", "mean"])
def test_pooling_is_what_it_says(pooling):
    model = tiny_pretrained("bert", "llama", pooling=pooling)
    ids, _ = batch(model)
    mask = ids != model.config.encoder_pad_token_id
    found = model.encoder.pooled(ids, mask)
    network = model.encoder.network
    assert (network.pooler is None) == (pooling != "pooler")
    out = network(input_ids=ids, attention_mask=mask.long())
    states = out.last_hidden_state
    expected = {
        "pooler": out.pooler_output,
        "cls": states[:, 0],
        "mean": torch.stack(
            [one[real].mean(dim=0) for one, real in zip(states, mask, strict=True)]
        ),
    }
    torch.testing.assert_close(found, expected[pooling])


@pytest.mark.parametrize("inject", ["memory", "embedding", "both", "none"])
def test_reading_token_by_token_equals_reading_at_once(decoding, inject):
    model = tiny_pretrained("bert", decoding.name, inject=inject)
    _, ids = batch(model)
    latent = None if inject == "none" else torch.randn(3, 6)
    whole = model.decoder.hidden(ids, latent)
    state = model.decoder.start(latent)
    parts = [model.decoder.advance(state, ids[:, t : t + 1]) for t in range(ids.shape[1])]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-3, atol=1e-4)


def test_without_a_latent_the_losses_are_those_of_the_network(decoding):
    model = decoding
    _, ids = batch(model)
    with torch.no_grad():
        logits = model.decoder.network(input_ids=ids).logits
        expected = F.cross_entropy(
            logits[:, :-1].mT, ids[:, 1:], ignore_index=model.config.pad_token_id, reduction="none"
        ).sum(dim=1)
        torch.testing.assert_close(model.decoder.nll(ids, None), expected, rtol=1e-4, atol=1e-4)


def test_sentences_of_a_batch_and_padding_do_not_touch_each_other(decoding):
    model = decoding
    _, ids = batch(model)
    latent = torch.randn(3, 6)
    losses = model.decoder.nll(ids, latent)
    for row, (sentence, z) in enumerate(zip(ids, latent, strict=True)):
        kept = sentence[sentence != model.config.pad_token_id][None]
        torch.testing.assert_close(
            model.decoder.nll(kept, z[None])[0], losses[row], rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("inject", ["memory", "embedding"])
def test_the_latent_reaches_every_position(decoding, inject):
    model = tiny_pretrained("bert", decoding.name, inject=inject)
    _, ids = batch(model)
    first, second = (model.decoder.logits(ids, torch.full((3, 6), z)) for z in (0.0, 1.0))
    assert (first - second).abs().amax(dim=-1).min() > 1e-5


def test_saved_and_loaded_it_gives_the_same_losses(decoding, tmp_path):
    model = decoding
    model.save_pretrained(tmp_path)
    again = OptimusModel.from_pretrained(tmp_path)
    assert {*model.state_dict()} == {*again.state_dict()}
    assert type(again.config.decoder) is type(model.config.decoder)
    inputs, eps = batch(model), torch.randn(3, 1, 6)
    for ours, theirs in zip(model(*inputs, eps=eps), again(*inputs, eps=eps), strict=True):
        assert torch.equal(ours, theirs)
    words, head = (
        again.decoder.network.get_input_embeddings(),
        again.decoder.network.get_output_embeddings(),
    )
    tied = again.config.decoder.tie_word_embeddings
    assert (words.weight.data_ptr() == head.weight.data_ptr()) == tied


def test_a_saved_encoder_gives_the_same_vectors(encoding, tmp_path):
    encoding.save_pretrained(tmp_path)
    again, (ids, _) = OptimusModel.from_pretrained(tmp_path), batch(encoding)
    assert torch.equal(again.encode(ids).mean, encoding.encode(ids).mean)


def test_gradient_checkpointing_keeps_the_latent(decoding):
    model = decoding.train()
    inputs, found = batch(model), []
    for enabled in (False, True):
        model._set_checkpointing(enabled)
        model.zero_grad()
        torch.manual_seed(3)
        losses = model(*inputs)
        losses.total.mean().backward()
        found.append([losses.total.detach(), *(p.grad.clone() for p in model.parameters())])
    for plain, recomputed in zip(*found, strict=True):
        torch.testing.assert_close(plain, recomputed, rtol=1e-4, atol=1e-6)
    assert model.decoder.memory.weight.grad.abs().max() > 0


PAIRS = (*((name, "llama") for name in ENCODERS), *(("bert", name) for name in DECODERS))


def gradients(model, network, rows):
    """Of the mean loss of the sentences ``rows`` through ``network``, which is or wraps ``model``.

    Nothing is drawn: z is the mean of the posterior, and the networks are in evaluation mode.
    """
    inputs = (ids[rows] for ids in batch(model, (9, 7, 4, 6)))
    network(*inputs, objective=Objective("autoencoder")).total.mean().backward()
    return {name: one.grad for name, one in model.named_parameters()}


def one_of_two(rank, folder):
    torch.set_num_threads(1)  # a forked child can have one only
    place = f"file://{folder}/rendezvous"
    dist.init_process_group("gloo", init_method=place, rank=rank, world_size=2)
    for pair in PAIRS:
        model = tiny_pretrained(*pair)
        found = gradients(model, DistributedDataParallel(model), slice(rank, None, 2))
        torch.save(found, f"{folder}/{'-'.join(pair)}-{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_have_the_gradients_of_one(tmp_path):
    fork = multiprocessing.get_context("fork")  # a new interpreter would take seconds to import
    workers = [fork.Process(target=one_of_two, args=(rank, tmp_path)) for rank in (0, 1)]
    for each in workers:
        each.start()
    for each in workers:
        each.join(100)
        assert each.exitcode == 0
    for pair in PAIRS:
        model = tiny_pretrained(*pair)
        whole = gradients(model, model, slice(None))
        for rank in (0, 1):
            shared = torch.load(tmp_path / f"{'-'.join(pair)}-{rank}.pt")
            for name, expected in whole.items():
                torch.testing.assert_close(shared[name], expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("strategy", ["greedy", "sample", "beam"])
def test_generation_does_not_depend_on_the_batch(decoding, strategy):
    model = decoding
    latents = torch.randn(4, 6, generator=torch.Generator().manual_seed(2))
    options = Sampling(strategy=strategy, max_new_tokens=7, num_beams=2)
    if strategy == "sample":
        noise = torch.Generator().manual_seed(1)
        first = generate(model, latents, options, generator=noise)
        assert first == generate(model, latents, options, generator=noise.manual_seed(1))
        return
    together = generate(model, latents, options, batch_size=4)
    assert together == generate(model, latents, options, batch_size=1)
    if strategy == "greedy":
        ids = torch.tensor([[model.config.bos_token_id]])
        for _ in range(7):
            best = model.decoder.logits(ids, latents[:1])[:, -1].argmax(dim=-1)
            ids = torch.cat([ids, best[:, None]], dim=1)
            if best == model.config.eos_token_id:
                break
        assert together[0] == ids[0].tolist()


def test_a_memory_of_fixed_size_gives_the_same_tokens(decoding):
    latents = torch.randn(4, 6, generator=torch.Generator().manual_seed(2))
    options = Sampling(max_new_tokens=7)
    windowed = decoding.config.decoder.model_type == "gemma2"  # of 4 tokens
    assert decoding.decoder.can_be_static(7) == (not windowed)
    found = [generate(decoding, latents, options, static=static) for static in (True, False)]
    assert found[0] == found[1]


def test_the_importance_weighted_bound_is_that_of_its_definition(decoding):
    model = decoding
    (encoder_ids, decoder_ids), eps = batch(model), torch.randn(3, 5, 6)
    with torch.no_grad():
        found = importance_scores(model, encoder_ids, decoder_ids, eps=eps, chunk_tokens=20)
        mean, logvar = model.encode(encoder_ids)
        posterior = Normal(mean[:, None], (0.5 * logvar[:, None]).exp())
        z = posterior.loc + posterior.scale * eps
        nll = torch.stack([model.decoder.nll(decoder_ids, z[:, k]) for k in range(5)], dim=1)
        weight = -nll + (Normal(0.0, 1.0).log_prob(z) - posterior.log_prob(z)).sum(dim=2)
    expected = weight.double().logsumexp(dim=1) - math.log(5)
    torch.testing.assert_close(found.log_marginal().double(), expected, rtol=1e-4, atol=1e-4)


def test_gpt2_read_this_way_equals_the_papers_decoder():
    general = tiny_pretrained("bert", "gpt2").decoder
    paper = Gpt2Decoder(general.network, 6, "both", general.pad_token_id).eval()
    layers, heads, head_dim = general.form
    with torch.no_grad():
        general.memory.bias.zero_()
        paper.embedding.weight.copy_(general.embedding.weight)
        chunks = general.memory.weight.view(layers, 2, heads * head_dim, 6)
        chunks[:, 1] = chunks[:, 0]
        paper.memory.weight.copy_(chunks[:, 0].flatten(0, 1))
    ids, latent = torch.randint(5, 50, (3, 8)), torch.randn(3, 6)
    torch.testing.assert_close(general.logits(ids, latent), paper.logits(ids, latent))


@pytest.mark.parametrize("name", DECODERS)
def test_a_network_that_fits_is_not_refused(name):
    assert find_misfit(tiny_networks("bert", name)[1]) is None


@pytest.mark.parametrize("name", ["mamba", "cohere"])
def test_a_network_without_such_a_cache_or_head_is_refused(name):
    assert find_misfit(tiny_networks("bert", name)[1]) is not None


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_that_fits_is_not_refused(name):
    network = tiny_networks(name, "llama")[0]
    pad = network.config.pad_token_id
    assert find_encoder_misfit(network, "mean", pad) is None
    assert find_encoder_misfit(network, "cls", pad) is None


@pytest.mark.parametrize("name", ["convbert", "fnet"])
def test_an_encoder_that_reads_its_padding_is_refused(name):
    network = tiny_networks(name, "llama")[0]
    assert "changes with the padding beside it" in find_encoder_misfit(network, "mean", 0)


def test_an_encoder_without_a_pooler_is_refused_where_it_is_asked_for():
    assert "cannot be read" in find_encoder_misfit(
        tiny_networks("deberta", "llama")[0], "pooler", 0
    )


def test_dropout_is_a_share_and_no_switch():
    config = AutoConfig.for_model("esm", vocab_size=60, token_dropout=True)
    set_dropout(config, 0.25)
    assert (config.hidden_dropout_prob, config.token_dropout) == (0.25, True)


def test_an_overlong_sentence_is_named():
    model = tiny_pretrained("roberta", "opt")
    assert isinstance(model.decoder, PretrainedDecoder)
    with pytest.raises(ValueError, match="more than 39 decoder tokens"):
        model.decoder.hidden(torch.zeros(1, 40, dtype=torch.long), torch.zeros(1, 6))
    assert tiny_pretrained("bert", "mpt").decoder.num_positions == 40
    with pytest.raises(ValueError, match="the encoder's 38 positions"):
        model.encode(torch.full((1, 39), 7))


def test_labels_are_controlled_on_any_decoder(decoding, tmp_path):
    torch.manual_seed(0)
    model, (ids, words) = LabelControl(decoding, 3, hidden=4).eval(), batch(decoding)
    labels = torch.tensor([0, 1, 2])
    model.start_from_posterior()
    torch.testing.assert_close(model.encode(ids), decoding.encode(ids).mean)
    losses = model(ids, words, labels, soft_temperature=0.5)
    given = model.condition(model.encode(ids), labels)
    torch.testing.assert_close(losses.reconstruction, decoding.decoder.nll(words, given))
    sum(one.mean() for one in losses).backward()
    still = {name for name, one in model.named_parameters() if one.grad is None}
    assert {name.removeprefix("vae.") for name in still} <= {
        "encoder.head.weight",
        "encoder.head.bias",
    }
    model.save_pretrained(tmp_path)
    again = LabelControl.from_pretrained(tmp_path)
    torch.testing.assert_close(again.encode(ids), model.encode(ids))
    torch.testing.assert_close(again.classify_text(words), model.classify_text(words))


@pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="peft is not installed")
@pytest.mark.parametrize("name", ["paper", "gpt2", "llama"])
def test_merged_lora_gives_the_losses_of_the_adapted_networks(name):
    def build() -> OptimusModel:
        return tiny_model() if name == "paper" else tiny_pretrained("bert", name)

    model, plain = build(), build()
    inputs, eps = batch(model), torch.randn(3, 1, 6)
    adapt(model, ModelOptions(train_encoder="lora", train_decoder="lora", lora_rank=2))
    with torch.no_grad():
        before = model(*inputs, eps=eps)
        for key, parameter in model.named_parameters():
            if "lora_B" in key:
                torch.nn.init.normal_(parameter, std=0.5)
        adapted = model(*inputs, eps=eps)
        for told in (model, plain):  # of a run, or of the weights that a checkpoint is put into
            plain.load_state_dict(without_lora(model.state_dict(), told))
            merged = plain(*inputs, eps=eps)
            torch.testing.assert_close(merged.total, adapted.total, rtol=1e-3, atol=1e-3)
    assert (before.total - adapted.total).abs().min() > 0.1
