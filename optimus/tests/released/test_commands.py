import shlex

import pytest

from optimus.released.commands import main, migrate
from optimus.runtime.command import parse_preset
from optimus.tasks.language_model import PRESETS, unused

FINE_TUNING = """python run_lm_vae_training.py --output_dir=../output/penn --dataset Penn
 --encoder_model_type=bert --encoder_model_name_or_path=bert-base-cased --decoder_model_type=gpt2
 --decoder_model_name_or_path=gpt2 --beta 0.5 --ratio_zero 0.5 --ratio_increase 0.25 --do_train
 --do_eval --fb_mode 1 --dim_target_kl 0.25 --train_data_file=../data/penn/train.txt
 --eval_data_file=../data/penn/test.txt --num_train_epochs 2.0 --save_steps 1000
 --logging_steps 200 --overwrite_output_dir --per_gpu_train_batch_size=5 --block_size 100
 --gradient_accumulation_steps 2 --length_weighted_loss --gloabl_step_eval 508523
 --checkpoint_dir ../output/pretrain --latent_size 64 --max_steps -1"""


def parsed(command, capsys):
    return parse_preset(PRESETS, command[2:], "optimus train", unused)


def test_a_fine_tuning_command_becomes_one_that_our_parser_accepts(capsys):
    train, evaluate = migrate(shlex.split(FINE_TUNING)).commands
    config = parsed(train, capsys)
    assert (config.model.latent_dim, config.epochs, config.max_steps) == (64, 2.0, 0)
    assert (config.objective.beta, config.objective.free_bits) == (0.5, 0.25)
    assert config.objective.length_weighted
    assert (config.data.batch_size, config.optimizer.accumulate) == (10, 2)
    assert str(config.data.folder) == "../data/penn"
    assert [str(path) for path in config.model.init] == ["../output/pretrain"]
    assert evaluate == ["optimus", "evaluate", "--run-dir", "../output/penn"]


def test_injection_flags_and_yelp_labels_are_understood(capsys):
    words = (
        "--dataset Yelp --latent_as_gpt_emb 0 --latent_as_gpt_memory 1 --train_data_file d/t.txt"
    )
    config = parsed(migrate(words.split()).commands[0], capsys)
    assert config.model.inject == "memory"
    assert config.data.format == "label-text"
    assert config.data.block_size == 510


def test_options_that_do_not_count_are_left_out_and_told(capsys):
    words = "--max_steps 90 --num_train_epochs 2 --use_deterministic_connect --dim_target_kl 0.5"
    translated = migrate(words.split())
    config = parsed(translated.commands[0], capsys)
    assert (config.max_steps, config.objective.kind) == (90, "deterministic-connect")
    assert [note.split()[0] for note in translated.notes] == [
        "--num_train_epochs",
        "--dim_target_kl",
    ]


def test_an_analogy_becomes_a_generate_command():
    words = [
        *["run_latent_generation.py", "--checkpoint_dir", "out", "--play_mode", "analogy"],
        *("--sent_source", "a man", "--sent_target", "men", "--sent_input", "a dog"),
        *["--degree_to_target", "1.5", "--top_p", "0", "--num_interpolation_steps", "5"],
    ]
    (command,) = migrate(words).commands
    assert command[:3] == ["optimus", "generate", "analogy"]
    assert command[command.index("--degree") + 1] == "1.5"
    assert command[command.index("--texts") + 1] == "a dog"
    assert command[command.index("--decoding.top-p") + 1] == "1.0"
    assert "--steps" not in command


def test_an_option_without_a_counterpart_is_told(capsys):
    main(["run_lm_vae_training.py", "--adam_epsilon", "1e-6"])
    assert "# --adam_epsilon has no counterpart" in capsys.readouterr().out


def test_a_script_without_a_counterpart_is_refused():
    with pytest.raises(ValueError, match="run_squad"):
        migrate(["run_squad.py"])


def test_a_stray_word_is_named():
    with pytest.raises(ValueError, match="'stray'"):
        migrate(["--beta", "1.0", "stray"])


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["run_squad.py", "--help"]])
def test_help_says_what_the_command_does_and_translates_nothing(words, capsys):
    main(words)
    output = capsys.readouterr().out
    assert output.startswith("usage: optimus migrate ")
    assert "run_latent_generation" in output
    assert "lm-snli" not in output


def test_a_command_line_may_be_given_in_quotes(capsys):
    line = "run_lm_vae_training.py --dataset Penn --beta 0.5 --output_dir 'my runs/penn'"
    main(shlex.split(line))
    expected = capsys.readouterr().out
    for quoted in ([line], [f"python {line}"], [f"  {line}\n"], ["python", line]):
        main(quoted)
        assert capsys.readouterr().out == expected
    main(["run_latent_generation.py", "--play_mode", "interpolation", "--checkpoint_dir", "c",
          "--sent_source", "python is a snake", "--sent_target", "python"])  # fmt: skip
    assert "--texts 'python is a snake' python" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([""], "the command line is empty"),
        (["run_lm_vae_training.py --dataset 'Penn"], "a quotation mark without its end"),
        (["--block_size", "long"], "--block_size takes a whole number, got 'long'"),
        (["--per_gpu_train_batch_size="], "--per_gpu_train_batch_size takes a whole number"),
        (["--gradient_accumulation_steps", "1.5"], "takes a whole number, got '1.5'"),
        (["--output_dir"], "--output_dir lacks its value"),
    ],
)
def test_what_is_no_command_line_is_refused_in_words(words, sentence):
    with pytest.raises(ValueError, match=sentence):
        main(words)
