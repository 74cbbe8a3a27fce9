"""The authors' flags: all of them, with their defaults, into commands that really parse."""

from __future__ import annotations

import json
import shlex

import pytest

from fqgan.__main__ import VERBS
from fqgan.biggan.config import PRESETS
from fqgan.config import all_presets
from fqgan.released.migrate import FLAGS, SWITCHED_OFF_BY, differences, main, read_flags, translate
from fqgan.runs import unused_options
from fqgan.runtime.command import parse_preset
from fqgan.runtime.options import why_unused

# What a launch script and the preset made from it may differ in, and why.
ALLOWED = {
    "--data.in-memory",  # 63 GB at 128 pixels: our reader does not need it
    "--name-suffix",
}


def scripts_of(case):
    content = json.loads(case.read_text())
    assert content["launch_scripts"]
    return content


def words_of(config):
    """A launch script's resolved configuration back into flags."""
    words = []
    for name, value in config.items():
        if name not in FLAGS or value == FLAGS[name]:
            continue
        flag = SWITCHED_OFF_BY.get(name, name)
        words += [f"--{flag}"] if isinstance(value, bool) else [f"--{flag}", str(value)]
    return words


@pytest.mark.golden
@pytest.mark.cases("biggan/misc/misc.json")
def test_the_authors_flags_and_defaults_are_ours(case):
    parser = scripts_of(case)["parser_defaults"]
    for name, entry in parser.items():
        assert FLAGS[name] == entry["default"], name
        assert entry["flags"] == [f"--{SWITCHED_OFF_BY.get(name, name)}"]
    assert {name for name in FLAGS if not name.startswith("sample_")} <= set(parser)


@pytest.mark.golden
@pytest.mark.cases("biggan/misc/misc.json")
def test_a_launch_script_becomes_its_preset(case):
    for script in scripts_of(case)["launch_scripts"].values():
        (translation,) = translate(["python", "train.py", *words_of(script["config"])])
        verb, preset, *options = translation.command
        assert verb == "train"
        assert {word for word in options if word.startswith("--")} <= ALLOWED, translation
        config = parse_preset({preset: PRESETS[preset], **PRESETS}, [preset, *options], "test")
        assert config.step.batch_size == script["config"]["batch_size"]
        assert config.quantizer.commitment_weight == script["config"]["commitment"]
        assert config.quantizer.decay == script["config"]["dict_decay"]
        assert config.quantizer.codebook_size == 2 ** script["config"]["dict_size"]


@pytest.mark.parametrize(
    "line",
    [
        "--dataset C10 --mybn --accumulate_stats --split_D --G_ortho 1e-4 --G_fp16 --D_thin",
        "--dataset C100 --discrete_layer '' --which_best IS --hashname --G_B1 0.5 --seed 3",
        "--dataset I64_hdf5 --hier --G_attn 32_16 --D_attn 0 --model BigGANdeep --G_depth 2",
        "--dataset I64_hdf5 --model BigGANdeep --D_thin",
        "--dataset I128 --augment --cross_replica --num_D_SVs 2 --sv_log_interval 5 --skip_init",
        "--dataset I64ext --num_epochs 7 --experiment_name mine --base_root elsewhere",
    ],
)
def test_a_translation_parses_back_to_what_was_translated(line):
    from fqgan.released.migrate import train_config

    words = shlex.split(line)
    (translation,) = translate(words)
    _, preset, *options = translation.command
    config = parse_preset(PRESETS, [preset, *options], "test", unused_options)
    left = differences(config, train_config(read_flags(words), []))
    assert [
        word
        for word in left
        if word.startswith("--") and not why_unused(word, unused_options(config))
    ] == []


def test_the_script_that_cannot_run_is_mended():
    (translation,) = translate(["--dataset", "I128_hdf5", "--hier", "--dim_z", "120"])
    assert any("--G_shared" in note for note in translation.notes)
    assert "--generator.shared-dim" not in translation.command or "128" in translation.command


def test_sampling_flags_become_sample_and_evaluate():
    words = (
        "python sample.py --dataset C10 --ema --use_ema --z_var 0.5 --sample_npz "
        "--sample_num_npz 10 --sample_sheets --sample_interps --sample_random "
        "--sample_trunc_curves 0.2_0.2_1.0 --sample_inception_metrics --load_weights best0"
    )
    sample, evaluate = (translation.command for translation in translate(shlex.split(words)))
    assert sample[0] == "sample"
    assert evaluate[0] == "evaluate"
    assert sample[0] in VERBS
    text = " ".join(sample)
    for option in (
        "--best",
        "--z-std 0.5",
        "--npz 10",
        "--sheets",
        "--random-sheet",
        "--truncation-curve 0.2 0.2 1.0",
    ):
        assert option in text


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--dataset C10 --unknown_flag 3", "--unknown_flag"),
        ("--dataset MNIST", "none of the authors'"),
        ("--dataset C10 --G_init ortho --D_init N02", "one --init"),
        ("--dataset C10 --which_best KID", "must be FID or IS"),
        ("--dataset C10 --D_param none", "--D_param has to be SN"),
    ],
)
def test_flags_without_a_counterpart_are_named(line, said):
    with pytest.raises(ValueError, match=said):
        translate(line.split())


def test_flags_that_mean_nothing_here_are_explained(capsys):
    main(["python train.py --dataset C10 --resume --parallel"])
    printed = capsys.readouterr().out
    assert "# --resume: running the same command again continues the run" in printed
    assert printed.splitlines()[-1].startswith("fqgan train biggan-c10")


def test_training_of_ugatit_becomes_its_nearest_preset(capsys):
    main(["python main.py --phase train --dataset cat2dog --light true --quant false --lr 0.001"])
    printed = capsys.readouterr().out.splitlines()
    words = shlex.split(printed[-1])[1:]
    assert words[:2] == ["train", "ugatit-cat2dog-light-baseline"]
    config = parse_preset(all_presets(), words[1:], "test")
    assert (config.step.lr, config.data.path) == (0.001, "dataset/cat2dog")
    assert printed[0].startswith("# theirs moves the generators on images of their own")


def test_testing_ugatit_becomes_two_translations_of_converted_weights():
    translations = translate(["python", "main.py", "--dataset", "selfie2anime"])
    inputs = [command[command.index("--input") + 1] for command, _ in translations]
    assert inputs == ["dataset/selfie2anime/testA", "dataset/selfie2anime/testB"]
    assert [command[-1] for command, _ in translations] == ["a2b", "b2a"]
    name = "UGATIT_q_selfie2anime_lsgan_4resblock_6dis_1_1_10_10_1000_sn_smoothing_123_2.0_0.85"
    assert f"fqgan convert ugatit checkpoint_quant/{name}" in translations[0].notes[0]
