import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from optimus.config import LoopOptions, ModelOptions, OptimizerOptions, rows_per_process
from optimus.data.wikipedia import WikipediaConfig
from optimus.decoding import Sampling, check_used
from optimus.generate import AnalogyConfig, ReconstructConfig, SampleConfig
from optimus.runtime.command import parse_preset
from optimus.tasks import classifier, dialog, label_control, language_model
from optimus.tasks.dialog import DECODING, EvaluateDialogConfig
from optimus.tasks.label_control import EvaluateControlConfig
from optimus.tasks.language_model import (
    CORPORA,
    LAMBDAS,
    PRESETS,
    WIKIPEDIA_STEPS,
    DataOptions,
    ObjectiveOptions,
    TrainConfig,
)
from optimus.tasks.language_scores import EvaluateConfig


@pytest.mark.parametrize(
    ("make", "option"),
    [
        (lambda: ModelOptions(latent_dim=0), "--model.latent-dim"),
        (lambda: ModelOptions(hidden=100), "--model.hidden"),
        (lambda: ModelOptions(vocabulary="10"), "--model.vocabulary"),
        (lambda: ModelOptions(init=(Path("a"), Path("b"), Path("c"))), "--model.init"),
        (lambda: ObjectiveOptions(free_bits=-1), "--objective.free-bits"),
        (lambda: ObjectiveOptions(ratio_increase=0), "--objective.ratio-increase"),
        (lambda: DataOptions(block_size=511), "--data.block-size"),
        (lambda: OptimizerOptions(lr=0), "--optimizer.lr"),
        (lambda: TrainConfig(epochs=0), "--epochs"),
        (lambda: TrainConfig(optimizer=OptimizerOptions(accumulate=3)), "--optimizer.accumulate"),
        (lambda: TrainConfig(model=ModelOptions(inject="none")), "--objective.kind"),
        (lambda: EvaluateConfig(), "--run-dir"),
        (lambda: EvaluateConfig(generated=Path("x")), "--references"),
        (lambda: EvaluateConfig(run_dir=Path("x"), references=Path("y")), "--generated and"),
        (lambda: EvaluateConfig(run_dir=Path("x"), model=Path("y")), "--model name two models"),
        (lambda: EvaluateDialogConfig(generated=Path("x"), baseline="human"), "exclude each"),
        (lambda: EvaluateDialogConfig(generated=Path("x"), step=3), "--step and --latents belong"),
        (lambda: EvaluateDialogConfig(baseline="human", latents=3), "--step and --latents belong"),
        (lambda: EvaluateDialogConfig(style_classifier=Path("x")), "--style-classifier need"),
        (lambda: Sampling(temperature=0), "--decoding.temperature"),
        (lambda: Sampling(strategy="beem"), "--decoding.strategy"),
        (lambda: Sampling(temperature=math.inf), "--decoding.temperature"),
        (lambda: Sampling(temperature=math.nan), "--decoding.temperature"),
        (lambda: Sampling("beam", length_penalty=math.nan), "--decoding.length-penalty"),
        (
            lambda: check_used(Sampling(temperature=0.5)),
            "temperature 0.5 counts with --decoding.strategy sample",
        ),
        (lambda: check_used(Sampling("beam", top_k=5)), "--decoding.top-k 5 counts with"),
        (lambda: check_used(Sampling(top_p=0.9)), "--decoding.top-p 0.9 counts with"),
        (lambda: check_used(Sampling("sample", num_beams=8)), "--decoding.num-beams 8 counts with"),
        (
            lambda: check_used(Sampling(length_penalty=0.5)),
            "--decoding.length-penalty 0.5 counts with",
        ),
        (lambda: SampleConfig(count=0), "--count"),
        (lambda: SampleConfig(latent_scale=math.nan), "--latent-scale must be finite"),
        (lambda: AnalogyConfig(degree=math.inf), "--degree must be finite"),
        (lambda: AnalogyConfig(source="a"), "--source and --target belong together"),
        (lambda: ReconstructConfig(limit=-1), "--limit must not be negative"),
        (lambda: EvaluateConfig(model=Path("x"), max_sentences=-5), "--max-sentences"),
        (lambda: EvaluateControlConfig(max_sentences=-5), "--max-sentences"),
        (lambda: EvaluateDialogConfig(max_contexts=-5), "--max-contexts"),
        (lambda: EvaluateDialogConfig(style=Path("x"), style_degree=math.nan), "--style-degree"),
        (lambda: WikipediaConfig(Path("x"), max_shards=-1), "--max-shards"),
        (lambda: LoopOptions(patience=2), "--eval-every"),
        (
            lambda: TrainConfig(
                model=ModelOptions(inject="none", train_decoder="frozen"),
                objective=ObjectiveOptions(kind="language-model"),
            ),
            "--model.train-decoder frozen leaves nothing to train",
        ),
    ],
)
def test_a_wrong_option_is_named(make, option):
    with pytest.raises(ValueError, match=option):
        make()


def test_every_row_of_the_language_modelling_table_has_a_preset():
    for corpus, (_, block_size, batch_size, epochs) in CORPORA.items():
        for free_bits in LAMBDAS:
            _, config = PRESETS[f"lm-{corpus}-{free_bits}"]
            assert config.objective.free_bits == float(free_bits)
            assert (config.data.block_size, config.data.batch_size) == (block_size, batch_size)
            assert config.epochs == epochs
            assert config.model.latent_dim == 32


def test_pretraining_is_one_epoch_of_wikipedia_in_ten_cycles():
    for dim in (32, 768):
        _, config = PRESETS[f"pretrain-wikipedia-{dim}"]
        assert config.max_steps * config.data.batch_size == pytest.approx(65.09e6, rel=1e-3)
        assert (config.max_steps, config.objective.cycles) == (WIKIPEDIA_STEPS, 10)
        assert config.model.latent_dim == dim


def test_no_two_presets_share_a_run_folder():
    folders = [config.run_dir for _, config in PRESETS.values()]
    assert len(folders) == len(set(folders))


def test_steps_come_from_epochs_unless_they_are_given():
    assert LoopOptions(epochs=2.5).steps(10) == 25
    assert LoopOptions(epochs=0.01).steps(10) == 1
    assert LoopOptions(max_steps=7).steps(10) == 7


def test_uneven_batches_and_wrong_numbers_are_refused():
    assert rows_per_process(8, 2) == 4
    with pytest.raises(ValueError, match="multiple of the 3 processes"):
        rows_per_process(8, 3)
    with pytest.raises(ValueError, match="--log-every must be at least 1"):
        LoopOptions(log_every=0)
    with pytest.raises(ValueError, match="--epochs must be positive"):
        LoopOptions(epochs=0)


def test_what_a_command_has_by_default_is_not_held_against_its_user():
    assert EvaluateDialogConfig(decoding=replace(DECODING, strategy="greedy")).decoding.top_p == 0.9
    with pytest.raises(ValueError, match=r"--decoding.top-p 0\.8 counts with"):
        EvaluateDialogConfig(decoding=replace(DECODING, strategy="greedy", top_p=0.8))


PLAIN = "--model.inject none --objective.kind language-model"
LABELED = "--data.task labeled --data.folder a --data.test b"


@pytest.mark.parametrize(
    ("command", "words", "said"),
    [
        (language_model, "--model.init a b --model.layers 2", "layers .* that of --model.init a b"),
        (language_model, "--model.init a --model.hidden=64", "hidden .* that of --model.init a;"),
        (dialog, "--model.init a --model.layers 2", "layers .* that of --model.init a;"),
        (label_control, "--model.init a --model.vocabulary 500", "vocabulary .*--model.init a;"),
        (classifier, "--model.init a --model.hidden 64", "hidden .* that of --model.init a;"),
        (language_model, "--model.start-sentences 9", "start-sentences .* --model.start data"),
        (language_model, "--model.lora-rank 4", "lora-rank .* trained by lora"),
        (language_model, "--max-steps 2 --epochs 3", "--epochs .* --max-steps 2 says how long"),
        (language_model, "--objective.alpha 0.5", "alpha .*kind free-bits has no such term"),
        (language_model, "--objective.kind mmd --objective.tc-weight 2", "tc-weight .*kind mmd"),
        (
            language_model,
            "--objective.kind deterministic-connect --objective.free-bits 1",
            "free-bits .*kind deterministic-connect",
        ),
        (language_model, f"{PLAIN} --objective.beta 0.5", "beta .*kind language-model"),
        (language_model, f"{PLAIN} --model.latent-dim 4", "latent-dim .* neither encoder nor"),
        (language_model, f"{PLAIN} --model.train-encoder frozen", "train-encoder .* neither"),
        (
            language_model,
            f"{PLAIN} --objective.mask-probability 0.1",
            "mask-probability .* neither",
        ),
        (language_model, f"{PLAIN} --optimizer.new-lr 1e-3", "new-lr .* no new weights"),
        (language_model, "--compat adamw --optimizer.kind fused", "kind .* --compat adamw"),
        (dialog, "--fusion.style-weight 2", "style-weight .* there is no style"),
        (label_control, "--control.start random", "start .* the model starts at random"),
        (label_control, "--control.soft-temperature 1", "soft-temperature .* drawn softly"),
        (label_control, "--control.encoder-weight 0 --control.adversary reverse", "adversary .* 0"),
        (
            label_control,
            "--control.updates released --control.critic-lr 1e-2",
            "critic-lr .* reconstruction alone",
        ),
        (label_control, "--data.valid x", "valid .* give --eval-every too"),
        (classifier, f"{LABELED} --data.valid x", "valid .* give --eval-every too"),
        (classifier, "--seed 3", "--seed .* --seeds"),
        (classifier, "--counts 2 --fractions 0.5", "--fractions .* --counts"),
        (classifier, "--mode feature --model.dropout 0.2", "dropout .* --mode feature"),
        (classifier, "--model.latent-dim 4", "latent-dim .* has no latent"),
    ],
)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_an_option_that_a_run_would_not_use_is_refused_where_it_is_given(
    command, words, said, dry, tmp_path
):
    run = ["--run-dir", str(tmp_path / "run")]
    with pytest.raises(ValueError, match="is not used: ") as refused:
        command.train_command(["smoke", *words.split(), *run, *dry])
    assert re.search(said, str(refused.value))
    assert not (tmp_path / "run").exists()


def test_epochs_count_beside_steps_where_they_say_how_fast_the_rate_decays():
    words = ["smoke", "--epochs", "3", "--compat", "horizon"]
    config = parse_preset(PRESETS, words, "optimus train", language_model.unused)
    assert (config.epochs, config.max_steps) == (3, 6)
