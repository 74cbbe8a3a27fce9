"""The help of a preset shows a readable number of options, and every one of them somewhere."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import sys
import time
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import pytest
import torch
from tiny_runs import command, finish, free_ports, start, tiny_run, weights_of

from fqgan import plots
from fqgan.__main__ import main
from fqgan.biggan.train import train
from fqgan.config import all_presets, evaluate, presets_for, sample, train_main
from fqgan.runs import differences, task_of
from fqgan.runtime.checkpoint import Checkpoint
from fqgan.runtime.options import READABLE

PRESETS = all_presets()


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_has_a_task_and_a_line_of_explanation(name):
    text, config = PRESETS[name]
    assert text
    assert "\n" not in text
    assert task_of(config.kind).config is type(config)
    assert dataclasses.is_dataclass(config)
    assert config.networks(10).quantizer == config.quantizer


def test_a_dry_run_prints_the_checked_options(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["train", "biggan-i128", "--dry-run", "--quantizer.codebook-size", "256"])
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    assert '"codebook_size": 256' in printed
    assert '"shared_dim": 128' in printed


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "biggan-c11"], "unknown preset 'biggan-c11'"),
        (["train", "smoke", "--max-steps", "0"], "--max-steps must be at least 1"),
        (["train", "smoke", "--step.batch-size", "0"], "--step.batch-size must be at least 1"),
        (["train", "smoke", "--data.source", "hdf5", "--data.path", "no.hdf5"], "no.hdf5"),
        pytest.param(
            ["train", "smoke", "--device", "cuda"],
            "--device cuda needs a CUDA device",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device"),
        ),
        (["evaluate", "--run-dir", "nowhere"], "nowhere is not the folder of a run"),
        (["sample", "--weights", "nowhere"], "--weights nowhere does not exist; give a run"),
        (
            ["translate", "--weights", "nowhere", "--input", "a.png"],
            "--weights nowhere does not exist; give a run",
        ),
        (
            ["train", "ugatit-smoke", "--data.source", "folders", "--data.path", "nowhere"],
            "--data.path nowhere is not a folder; it must hold trainA",
        ),
        (["migrate", ""], "the command line is empty"),
        (["migrate", "python train.py 'C10"], "has a quotation mark without its end"),
        (
            ["train", "smoke", "--quantizer.layers", "--quantizer.decay", "0.5"],
            "--quantizer.decay is not used: no layer is quantized; give --quantizer.layers",
        ),
        (["train", "smoke", "--generator.depth=3"], "--generator.depth is not used: blocks have"),
        *(
            (["train", *words.split()], f"--{said}")
            for words, said in (
                ("smoke --quantizer.warmup-calls 3", "quantizer.warmup-calls is not used: --quant"),
                (
                    "biggan-c10 --data.toy-images 50",
                    "data.toy-images is not used: it is for --data.source toy, got cifar10",
                ),
                (
                    "biggan-i64 --data.split test",
                    "data.split is not used: it is for --data.source cifar10 or",
                ),
                (
                    "biggan-i64 --data.validation-fraction 0.1",
                    "data.validation-fraction is not used: it is for --data.source cifar10 or",
                ),
                (
                    "biggan-c10 --data.split test --data.validation-fraction 0.1",
                    "data.validation-fraction is not used: --data.split test is whole",
                ),
                (
                    "biggan-c10 --data.workers 8",
                    "data.workers is not used: it is for --data.source",
                ),
                (
                    "stylegan2-ffhq64 --data.skip-other-files",
                    "data.skip-other-files is not used: it is for --data.source folder or images",
                ),
                (
                    "stylegan2-ffhq64 --data.no-skip-other-files",
                    "data.no-skip-other-files is not used: it is for --data.source folder",
                ),
                (
                    "ugatit-smoke --data.limit 20",
                    "data.limit is not used: --data.source toy draws images that fit",
                ),
                (
                    "ugatit-selfie2anime --data.toy-images 200",
                    "data.toy-images is not used: it is for --data.source toy, got folders",
                ),
                (
                    "ugatit-smoke --data.no-augment --data.enlarge 3",
                    "data.enlarge is not used: --data.no-augment enlarges nothing",
                ),
                (
                    "smoke --evaluate-every 0 --scoring.num-images 40",
                    "scoring.num-images is not used: nothing is scored; give --evaluate-every",
                ),
                (
                    "ugatit-smoke --evaluate-every 0 --scoring.subsets 3",
                    "scoring.subsets is not used: nothing is scored; give --evaluate-every",
                ),
                (
                    "stylegan2-smoke --evaluate-kimg 0 --scoring.features squeezenet",
                    "scoring.features is not used: nothing is scored; give --evaluate-kimg",
                ),
                (
                    "smoke --scoring.weights a.pth",
                    "scoring.weights is not used: --scoring.features random makes its own",
                ),
                ("smoke --scoring.download", "scoring.download is not used: it fetches Inception"),
                (
                    "biggan-c10 --scoring.moments m.npz --scoring.real-images 9",
                    "scoring.real-images is not used: --scoring.moments m.npz takes the place",
                ),
                (
                    "smoke --run-dir runs/mine --naming hashed",
                    "naming is not used: the folder is --run-dir runs/mine",
                ),
                (
                    "stylegan2-smoke --run-dir runs/mine --name mine",
                    "name is not used: the folder is --run-dir runs/mine",
                ),
                (
                    "smoke --naming hashed --name-suffix mine",
                    "name-suffix is not used: --naming hashed has no such word",
                ),
                (
                    "smoke --step.generator-batch-size 2",
                    "step.generator-batch-size is not used: G gets no fewer images than",
                ),
                (
                    "biggan-i128-upstream-deep --discriminator.no-wide",
                    "discriminator.no-wide is not used: blocks of --architecture biggan-deep",
                ),
                (
                    "stylegan2-smoke --step.path-length-weight 0 --step.generator-every 2",
                    "step.generator-every is not used: --step.path-length-weight 0",
                ),
                (
                    "stylegan2-smoke --step.r1-weight 0 --step.discriminator-every 2",
                    "step.discriminator-every is not used: --step.r1-weight 0",
                ),
                (
                    "stylegan2-smoke --discriminator.group-size 0 --discriminator.group-features 2",
                    "discriminator.group-features is not used: --discriminator.group-size 0",
                ),
                (
                    "stylegan2-smoke --sample-kimg 0 --sheet-images 9",
                    "sheet-images is not used: --sample-kimg 0 writes no sheets",
                ),
                (
                    "ugatit-smoke --sample-every 0 --sample-images 9",
                    "sample-images is not used: --sample-every 0 writes no sheets",
                ),
                (
                    "stylegan2-smoke --schedule.lr-at 8 0.1",
                    "schedule.lr-at is not used: no images but those of 32 pixels",
                ),
                (
                    "ugatit-smoke --schedule.no-decay --schedule.epochs 3",
                    "schedule.epochs is not used: --max-steps 4 says how long",
                ),
                (
                    "smoke --evaluate-every 0 --patience 2",
                    "patience is not used: nothing is scored",
                ),
                ("biggan-c10 --standing-batches 3", "standing-batches is not used: it belongs to"),
                ("smoke --no-use-average --step.ema-decay 0.9", "step.ema-decay is not used: --no"),
                (
                    "smoke --generator.no-spectral-norm --generator.power-iterations 2",
                    "generator.power-iterations is not used: --generator.no",
                ),
                ("smoke --step.decay-start 0.2", "step.decay-start is not used: --step.schedule"),
                ("smoke --step.ortho-variant default", "step.ortho-variant is not used: --step"),
                ("ugatit-smoke --step.penalty-weight 1", "step.penalty-weight is not used: --step"),
                (
                    "ugatit-smoke --schedule.no-decay --schedule.decay-epoch 3",
                    "schedule.decay-epoch is not used: --schedule.no-decay",
                ),
                ("stylegan2-smoke --adaptive.target 0.5", "adaptive.target is not used: nothing"),
                (
                    "stylegan2-smoke --step.path-length-weight 0 --step.path-length-shrink 1",
                    "step.path-length-shrink is not used: --step.path-length-weight 0",
                ),
                (
                    "stylegan2-smoke --schedule.training-kimg 1",
                    "schedule.training-kimg is not used: images begin in full size",
                ),
                (
                    "stylegan2-smoke --evaluate-kimg 0 --best-metric fid",
                    "best-metric is not used: nothing is scored; give --evaluate-kimg",
                ),
            )
        ),
        *(
            ([*words.split(), "--dry-run"], said)
            for words, said in (
                (
                    "evaluate biggan --weights w --data.source hdf5 --data.split test",
                    "--data.split is not used: it is for --data.source cifar10 or",
                ),
                (
                    "evaluate biggan --samples s.npz --scoring.num-images 90",
                    "--scoring.num-images is not used: --samples s.npz are scored as they are",
                ),
                (
                    "evaluate biggan --samples s.npz --no-use-average",
                    "--no-use-average is not used: --samples s.npz are scored as they are",
                ),
                (
                    "evaluate biggan --weights w --scoring.moments m.npz --data.path d",
                    "--data.path is not used: --scoring.moments m.npz takes the place",
                ),
                (
                    "evaluate stylegan2 --weights w --path-pairs 9",
                    "--path-pairs is not used: --metrics fid50k does not need it",
                ),
                (
                    "evaluate stylegan2 --weights w --metrics ppl_wend --scoring.num-images 90",
                    "--scoring.num-images is not used: --metrics ppl_wend does not need it",
                ),
                (
                    "evaluate ugatit --weights w --data.no-augment",
                    "--data.no-augment is not used: scores are of the test images as they are",
                ),
            )
        ),
        (
            ["train", "stylegan2-smoke", "--schedule.growing"],
            "--schedule.growing begins with small images, which --generator.architecture skip does",
        ),
        (["convert", "nosuch", "a", "b"], "unknown kind 'nosuch'; choose one of biggan, tfhub"),
        (["convert"], "a kind comes first, before any option"),
        (["convert", "biggan", "", "out"], "FOLDER is empty: give a file or folder"),
        (["convert", "stylegan2", "a.pkl", ""], "OUT is empty: give a file or folder"),
        (["convert", "biggan", "a"], "`fqgan convert biggan` lacks OUT (Folder to write)"),
        (["migrate", "hello"], "hello is no script of the authors"),
        (["migrate", "train.py", "--batch_size", "0"], "--batch_size must be at least 1, got 0"),
        (["score", "", "photos"], "the reference, is empty"),
        (
            ["score", "cifar10:", "a", "--features", "random"],
            "cifar10: names no path",
        ),
        (["evaluate", "--run-dir", ""], "'' is not the folder of a run"),
        (["evaluate", "--samples", "no.npz", "--scoring.features", "inception"], "no.npz does not"),
        (["plot", "nowhere"], "does not exist; give the folder of a run"),
        (["migrate", "--dataset", "MNIST"], "--dataset MNIST is none of the authors'"),
        (["paint"], "unknown verb 'paint'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_of_the_user_is_one_sentence_and_status_2(words, said, capsys, monkeypatch):
    monkeypatch.delenv("TRACEBACK", raising=False)
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert said in " ".join(error.split())
    assert "Traceback" not in error


def test_differences_give_back_the_options_of_another_preset():
    words = differences(PRESETS["biggan-c10"][1], PRESETS["biggan-c100"][1])
    assert words[words.index("--quantizer.codebook-size") + 1] == "64"


OPTION = r"(?m)^[│| ]*--([\w.-]+)(?:,| [A-Z{\[])"


def options_shown(capsys, preset, *topic):
    with pytest.raises(SystemExit) as ended:
        train_main([preset, "--help", *topic])
    assert ended.value.code == 0
    return set(re.findall(OPTION, capsys.readouterr().out))


@pytest.mark.parametrize("preset", ["smoke", "ugatit-smoke", "stylegan2-smoke"])
def test_every_option_is_in_a_part_that_can_be_read(capsys, preset):
    config = PRESETS[preset][1]
    groups = [f.name for f in fields(config) if is_dataclass(getattr(config, f.name))]
    parts = [options_shown(capsys, preset, *topic) for topic in ((), *([g] for g in groups))]
    assert max(map(len, parts)) <= READABLE
    expected = {f.name for f in fields(config)} - set(groups)
    for group in groups:
        expected |= {f"{group}.{f.name}" for f in fields(getattr(config, group))}
    assert set().union(*parts) == {name.replace("_", "-") for name in expected}
    assert options_shown(capsys, preset, "all") == set().union(*parts)


@pytest.mark.parametrize("family", ["biggan", "stylegan2"])
@pytest.mark.parametrize("command", [sample, evaluate])
def test_sampling_and_scoring_show_their_groups_too(capsys, family, command):
    shown = {}
    for topic in ((), ("all",)):
        with pytest.raises(SystemExit):
            command([family, "--help", *topic])
        shown[topic] = set(re.findall(OPTION, capsys.readouterr().out))
    assert len(shown[()]) <= READABLE
    assert shown[()] <= shown["all",]


def differing(one: Path, two: Path) -> list[str]:
    first, second = weights_of(one), weights_of(two)
    assert first
    assert first.keys() == second.keys()
    return [name for name, value in first.items() if not torch.equal(value, second[name])]


def wait_for_checkpoint(run_dir: Path, process) -> None:
    deadline = time.monotonic() + 90
    while not Checkpoint(run_dir).steps():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_killed_run_ends_with_the_bits_of_an_uninterrupted_one(tmp_path):
    killed, whole = (
        tiny_run(tmp_path / name, max_steps=24, save_every=6) for name in ("killed", "whole")
    )
    process = start(command(killed))
    wait_for_checkpoint(killed.folder, process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert 0 < Checkpoint(killed.folder).steps()[-1] < 24
    train(killed)
    train(whole)
    assert differing(killed.folder, whole.folder) == []
    metrics = [(run.folder / "metrics.jsonl").read_bytes() for run in (killed, whole)]
    assert metrics[0] == metrics[1]


def test_a_termination_saves_and_the_same_command_continues(tmp_path):
    run = tiny_run(tmp_path, max_steps=100_000, save_every=3)
    process = start(command(run))
    wait_for_checkpoint(tmp_path, process)
    process.send_signal(signal.SIGTERM)
    assert "run the same command to continue" in finish(process, status=3)
    step = Checkpoint(tmp_path).steps()[-1]
    train(replace(run, max_steps=step + 1))
    assert Checkpoint(tmp_path).steps()[-1] == step + 1


TWO_PROCESSES = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, sys.argv[1])
from fqgan.biggan.step import GanStep
from fqgan.biggan.train import train
from tiny_runs import tiny_run

folder, die_at, *ports = sys.argv[2:]
step = GanStep.__call__


def die(self, images, labels, number):
    if number == int(die_at):
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, images, labels, number)


GanStep.__call__ = die
run = tiny_run(Path(folder) / "killed", max_steps=4, save_every=2)
run = replace(run, step=replace(run.step, num_d_accumulations=2, num_g_accumulations=2))
for run_dir, port in zip(("killed", "whole"), ports):  # a group of processes each
    os.environ["MASTER_PORT"] = port
    train(replace(run, run_dir=str(Path(folder) / run_dir)))
"""


def two_processes(folder: Path, die_at: int, count: int) -> list:
    words = [sys.executable, "-c", TWO_PROCESSES, str(Path(__file__).parent), str(folder)]
    words += [str(die_at), *free_ports(count)]
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    return [start(words, RANK=str(rank), **group) for rank in (0, 1)]


def test_two_killed_processes_end_with_the_bits_of_uninterrupted_ones(tmp_path):
    """They share the accumulations; both die in step 3, are started again, and run to the end."""
    for process in two_processes(tmp_path, die_at=3, count=1):
        finish(process, status=-signal.SIGKILL)
    assert Checkpoint(tmp_path / "killed").steps() == [2]
    for process in two_processes(tmp_path, die_at=0, count=2):
        finish(process)
    assert Checkpoint(tmp_path / "killed").steps() == [2, 4]
    assert differing(tmp_path / "killed", tmp_path / "whole") == []


def test_only_the_named_preset_is_parsed_where_there_is_one():
    for name in ("biggan-c10", "smoke", "ugatit-demo", "stylegan2-ffhq64"):
        assert list(presets_for([name])) == [name]
    assert len(presets_for(["--help"])) > 20


def test_the_command_trains_and_draws_curves(tmp_path):
    pytest.importorskip("matplotlib")
    train_main(["smoke", "--run-dir", str(tmp_path), "--max-steps", "2", "--evaluate-every", "0"])
    assert (tmp_path / "curves.png").stat().st_size > 1000


def write_metrics(folder):
    rows = [
        {"step": step, "loss_real": 1.0, "loss_fake": 0.5, "fid": 9.0 - step}
        | {"blocks.0.1/codebook_perplexity": 2.0, "blocks.1.1/codebook_perplexity": 3.0}
        for step in (1, 2, 3)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_curves_of_a_run_become_a_picture(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    write_metrics(tmp_path)
    plots.main([str(tmp_path)])
    path = tmp_path / "curves.png"
    assert capsys.readouterr().out.strip() == str(path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_the_cure_is_named(tmp_path, monkeypatch, caplog):
    write_metrics(tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match="pip install"):
        plots.plot_run(tmp_path)
    with caplog.at_level("INFO"):
        assert plots.try_plot(tmp_path) is None
    assert "matplotlib is not installed" in caplog.text


def test_a_folder_without_metrics_is_named(tmp_path):
    pytest.importorskip("matplotlib")
    with pytest.raises(FileNotFoundError, match="no rows in metrics"):
        plots.plot_run(tmp_path)


def test_every_kind_of_curve_that_a_run_logged_has_a_panel(tmp_path):
    pytest.importorskip("matplotlib")
    losses = {"loss_discriminator": 2.0, "loss_cycle": 0.5, "loss_cam": 1.4}
    rows = [{"step": step, **losses} for step in range(1, 150)]
    rows += [{"step": 150, "kid_x100/a2b": 12.0, "judge_a.1/codebook_perplexity": 3.0}]
    panels = {title: list(curves) for title, curves in plots.panels_of(rows)}
    assert panels == {
        "loss": ["loss_discriminator"],
        "reconstruction and attention": ["loss_cycle", "loss_cam"],
        "R1": [],
        "path length": [],
        "FID": [],
        "KID x 100": ["kid_x100/a2b"],
        "codebook perplexity": ["judge_a.1/codebook_perplexity"],
    }
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert plots.plot_run(tmp_path).stat().st_size > 1000


def test_a_running_mean_uses_what_there_is_at_the_ends():
    assert plots.running_mean([0.0, 3.0, 6.0, 3.0]).tolist() == [1.5, 3.0, 4.0, 4.5]


def test_regularizers_have_panels_and_runs_counted_in_images_say_so(tmp_path):
    pytest.importorskip("matplotlib")
    rows = [
        {"step": 32 * step, "iteration": step, "loss_r1": 0.1, "loss_path_length": 2.0}
        for step in (1, 2)
    ]
    panels = dict(plots.panels_of(rows))
    assert panels["R1"] == {"loss_r1": "r1"}
    assert panels["path length"] == {"loss_path_length": "path_length"}
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert plots.plot_run(tmp_path).stat().st_size > 1000
