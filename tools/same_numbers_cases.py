"""The commands of `same_numbers.py`: smoke and demo presets of every task, and their use."""

from __future__ import annotations

from typing import NamedTuple


class Case(NamedTuple):
    """A command; ``{NAME}`` in it is the run folder of another case, ``{out}`` its own."""

    project: str
    name: str
    command: str  # verb, preset, options
    trains: bool = True


CASES = [
    Case("optimus", *case)
    for case in (
        ("train-smoke", "train smoke"),
        ("train-demo", "train demo --max-steps 6 --log-every 2 --save-every 3"),
        ("train-memory", "train smoke --model.inject memory --objective.kind free-bits-floor"),
        ("train-embedding", "train smoke --model.inject embedding --optimizer.accumulate 2"),
        ("train-gpt2", "train smoke --model.inject none --objective.kind language-model"),
        ("train-autoencoder", "train smoke --objective.kind autoencoder --model.dropout 0.1"),
        (
            "train-denoising",
            "train smoke --objective.kind deterministic-connect --objective.mask-probability 0.2 "
            "--objective.length-weighted --objective.cycles 2",
        ),
        ("train-authors-habits", "train smoke --compat adamw order horizon"),
        ("train-bf16", "train smoke --precision bf16 --optimizer.warmup-steps 2"),
        ("train-continued-weights", "train smoke --model.init {train-smoke}/model"),
        ("dialog-smoke", "train-dialog smoke --data.folder data/dialog"),
        (
            "dialog-released",
            "train-dialog smoke --data.folder data/dialog --fusion.push constant "
            "--fusion.context-mask released --fusion.speakers last-row --fusion.weight 30",
        ),
        (
            "dialog-stylized",
            "train-dialog smoke --data.folder data/dialog --fusion.style data/dialog/style.txt",
        ),
        ("label-control-smoke", "train-label-control smoke"),
        ("label-control-toy", "train-label-control toy --max-steps 4 --log-every 2 --save-every 2"),
        ("label-control-released", "train-label-control smoke --control.updates released"),
        (
            "label-control-soft",
            "train-label-control smoke --control.soft-weight 0.5 --control.adversary reverse "
            "--control.encoder-start 0 --control.critic-steps 2",
        ),
        ("classifier-smoke", "train-classifier smoke"),
        (
            "classifier-feature",
            "train-classifier smoke --mode feature --model.init {train-smoke}/model "
            "--fractions 1 --dump-features",
        ),
        (
            "classifier-labeled",
            "train-classifier smoke --data.task labeled --data.folder data/toy-labels/train.txt "
            "--data.test data/toy-labels/test.txt --counts 8 --seeds 1",
        ),
    )
]
CASES += [
    Case("fq-gan", *case)
    for case in (
        ("biggan-smoke", "train smoke"),
        (
            "biggan-demo",
            "train demo --max-steps 6 --log-every 2 --save-every 3 --evaluate-every 3 "
            "--data.toy-images 400 --scoring.num-images 64",
        ),
        ("biggan-plain", "train smoke --quantizer.layers --step.ema-start 1 --no-channels-last"),
        (
            "biggan-straight",
            "train smoke --quantizer.forward straight_through --quantizer.revive-below 0.1 "
            "--step.split-d --step.num-d-steps 2 --spectra-every 1",
        ),
        (
            "biggan-attention",
            "train smoke --generator.hierarchical --generator.shared-dim 4 --generator.attention 16"
            " --discriminator.attention 16 --generator.latent-dim 12 --sample-statistics running "
            "--step.num-d-accumulations 2 --step.num-g-accumulations 2 --step.ema-start 1 "
            "--step.generator-ortho 1e-4 --data.augment",
        ),
        (
            "biggan-deep",
            "train smoke --architecture biggan-deep --generator.hierarchical "
            "--generator.shared-dim 8 --init N02 --quantizer.layers 0 1 2",
        ),
        ("stylegan2-smoke", "train stylegan2-smoke"),
        (
            "stylegan2-demo",
            "train stylegan2-demo --schedule.total-kimg 0.128 --log-kimg 0.032 --save-kimg 0.064 "
            "--evaluate-kimg 0.128 --sample-kimg 0.128 --data.toy-images 400 "
            "--scoring.num-images 64",
        ),
        (
            "stylegan2-resnet",
            "train stylegan2-smoke --conditional --generator.architecture resnet "
            "--discriminator.architecture skip --quantizer.layers --data.augment "
            "--schedule.device-batch-size 8 --evaluate-kimg 0.016 --sample-kimg 0.016",
        ),
        (
            "stylegan2-penalties",
            "train stylegan2-smoke --step.discriminator-every 1 --step.generator-every 1 "
            "--step.r1-weight 10 --generator.architecture orig --discriminator.architecture orig",
        ),
        (
            "stylegan2-growing",
            "train stylegan2-smoke --generator.architecture growing "
            "--discriminator.architecture growing --schedule.growing "
            "--schedule.training-kimg 0.008 --schedule.transition-kimg 0.008 --quantizer.layers",
        ),
        ("ugatit-smoke", "train ugatit-smoke"),
        (
            "ugatit-demo",
            "train ugatit-demo --max-steps 4 --log-every 1 --save-every 2 --evaluate-every 4 "
            "--sample-every 4 --data.toy-images 100 --scoring.subsets 4",
        ),
        (
            "ugatit-full",
            "train ugatit-smoke --generator.no-light --quantizer.layers --step.separate-batches "
            "--step.batch-size 2 --step.generator-every 2 --evaluate-every 2 --sample-every 2",
        ),
    )
]
CASES += [
    Case("prevalent", *case)
    for case in (
        ("pretrain-smoke", "pretrain smoke"),
        (
            "pretrain-demo",
            "pretrain demo --max-steps 6 --log-every 2 --save-every 3 --eval-every 3 "
            "--eval-batches 2 --toy-houses 4",
        ),
        (
            "pretrain-text-only",
            "pretrain smoke --no-use-images --no-predict-action --accumulate 2 --warmup-steps 2",
        ),
        ("pretrain-torch", "pretrain smoke --optimizer torch --weight-decay 0.01"),
        ("speaker-smoke", "train-speaker smoke"),
        (
            "speaker-demo",
            "train-speaker demo --max-steps 6 --log-every 2 --save-every 3 --eval-every 3 "
            "--toy-houses 4",
        ),
        ("r2r-smoke", "train-r2r smoke"),
        (
            "r2r-demo",
            "train-r2r demo --max-steps 4 --log-every 2 --save-every 2 --eval-every 4 "
            "--toy-houses 4",
        ),
        (
            "r2r-pretrained",
            "train-r2r smoke --pretrained {pretrain-smoke}/model --model.encoder dic "
            "--model.angle-size 128 "
            "--model.update-language --model.update-cross --feedback teacher --eval-every 2",
        ),
        ("r2r-student", "train-r2r smoke --feedback student --optimizer.kind adam"),
        (
            "r2r-self-critical",
            "train-r2r smoke --feedback self-critical --model.num-texts 3 --model.merge-texts max",
        ),
        (
            "r2r-back-translation",
            "train-r2r smoke --aug train --speaker {speaker-smoke} --no-accumulate "
            "--schedule-ratio 0.5",
        ),
        (
            "r2r-lstm",
            "train-r2r smoke --model.encoder lstm --aug train --speaker {speaker-smoke} "
            "--rollout.move-after-stop --rollout.normalize batch",
        ),
        ("graph-smoke", "train-graph smoke"),
        ("ndh-smoke", "train-ndh ndh-smoke"),
        (
            "ndh-demo",
            "train-ndh demo --max-steps 4 --log-every 2 --save-every 2 --eval-every 4 "
            "--toy-houses 4",
        ),
        (
            "ndh-seq2seq",
            "train-ndh ndh-smoke --model.encoder lstm --model.actions low-level "
            "--path-type player_path --history nav_q_oracle_ans --feedback sample",
        ),
        (
            "ndh-panoramic",
            "train-ndh ndh-smoke --model.encoder lstm --path-type planner_path --feedback teacher "
            "--walk.move-after-stop --eval-every 2",
        ),
        ("hanna-smoke", "train-hanna hanna-smoke"),
        (
            "hanna-toy",
            "train-hanna hanna-toy --max-steps 4 --log-every 2 --save-every 2 --eval-every 4 "
            "--batch-size 8 --toy-houses 4",
        ),
        (
            "hanna-pretrained",
            "train-hanna hanna-smoke --model.encoder dic --pretrained {pretrain-smoke}/model "
            "--model.update-language --model.reset own --search.perfect-interpretation",
        ),
        ("hanna-never", "train-hanna hanna-smoke --search.ask never --search.curiosity 0"),
        (
            "hanna-random",
            "train-hanna hanna-smoke --search.ask random --search.vision-only --eval-every 2 "
            "--model.no-similar-situations --model.reset never",
        ),
    )
]
CASES += [
    Case("optimus", *case, trains=False)
    for case in (
        ("evaluate", "evaluate --run-dir {train-smoke} --samples 4 --output-dir {out}"),
        (
            "evaluate-study",
            "evaluate --run-dir {train-smoke} --reconstruction-study --output-dir {out}",
        ),
        ("evaluate-gpt2", "evaluate --run-dir {train-gpt2} --output-dir {out}"),
        (
            "reconstruct",
            "generate reconstruct --model {train-smoke}/model --file data/toy/test.txt --limit 8 "
            "--output {out}/lines.txt",
        ),
        ("sample", "generate sample --model {train-smoke} --count 8 --output {out}/lines.txt"),
        (
            "interpolate",
            "generate interpolate --model {train-smoke} --texts 'a dog sees it .' 'the cats ran .' "
            "--output {out}/lines.txt",
        ),
        (
            "evaluate-dialog",
            "evaluate-dialog --run-dir {dialog-smoke} --responses 2 --max-contexts 4 --latents 4 "
            "--decoding.strategy greedy --output-dir {out}",
        ),
        (
            "evaluate-label-control",
            "evaluate-label-control --run-dir {label-control-smoke} --max-sentences 20 "
            "--output-dir {out}",
        ),
        (
            "convert-export",
            "convert --source {train-smoke}/model --target {out}/authors --direction export",
        ),
    )
]
CASES += [
    Case("fq-gan", *case, trains=False)
    for case in (
        ("biggan-evaluate", "evaluate --run-dir {biggan-smoke}"),
        (
            "biggan-sample",
            "sample --run-dir {biggan-smoke} --out {out} --sheets --random-sheet --npz 8 "
            "--interpolations 1",
        ),
        ("stylegan2-evaluate", "evaluate --run-dir {stylegan2-smoke}"),
        (
            "stylegan2-sample",
            "sample --run-dir {stylegan2-smoke} --out {out} --seeds 3 5 --rows 1 2 --columns 4 "
            "--sheet 4 --npz 4",
        ),
        (
            "stylegan2-project",
            "project --run-dir {stylegan2-smoke} --out {out} --seeds 3 --features random "
            "--projection.num-steps 4 --projection.style-samples 50",
        ),
        ("ugatit-evaluate", "evaluate --run-dir {ugatit-smoke}"),
        (
            "ugatit-translate",
            "translate --run-dir {ugatit-smoke} --out {out} --input data/toy-domains/testA "
            "--heatmaps --sheet 2",
        ),
    )
]
CASES += [
    Case("prevalent", *case, trains=False)
    for case in (
        ("r2r-evaluate", "evaluate --run-dir {r2r-smoke} --split val_unseen"),
        (
            "r2r-search",
            "evaluate --run-dir {r2r-smoke} --split val_seen --beam 4 --speaker {speaker-smoke}",
        ),
        ("r2r-submit", "submit --run-dir {r2r-smoke} --output {out}/submit.json"),
        ("r2r-convert", "convert {r2r-smoke} {out}/agent.pt --to authors"),
        ("r2r-random", "baseline --data-dir {r2r-smoke}/world --output {out}/walks.json --seeds 2"),
        ("ndh-evaluate", "evaluate --task ndh --run-dir {ndh-smoke} --split val_unseen"),
        ("ndh-submit", "submit --task ndh --run-dir {ndh-smoke} --output {out}/submit.json"),
        ("hanna-evaluate", "evaluate --task hanna --run-dir {hanna-smoke} --split val_unseen"),
    )
]
