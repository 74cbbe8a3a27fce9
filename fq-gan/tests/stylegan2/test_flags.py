"""The authors' flags for StyleGAN2, into commands that really parse."""

import pytest

from fqgan.released.migrate import SCRIPTS, translate
from fqgan.runtime.command import parse, parse_preset
from fqgan.stylegan2.commands import EvaluateConfig, SampleConfig
from fqgan.stylegan2.config import PRESETS
from fqgan.stylegan2.projection import ProjectConfig

README = (
    "python run_training.py --num-gpus=8 --data-dir=datasets --config=config-e --dataset={data} "
    "--mirror-augment=true --total-kimg 25000 --gamma=100 --D_type=1 --discrete_layer 45 "
    "--commitment_cost 0.25 --decay 0.8"
)


def trained(command):
    ((words, notes),) = translate(command.split())
    assert words[0] == "train"
    return parse_preset({words[1]: PRESETS[words[1]]}, words[1:], "test"), words, notes


@pytest.mark.parametrize("size", [32, 64, 128])
def test_the_recipe_of_the_readme_is_its_preset(size):
    config, words, notes = trained(README.format(data=f"ffhq{size}"))
    assert words[1:] == [f"stylegan2-ffhq{size}", "--data.path", f"datasets/ffhq{size}"]
    assert config.quantizer == PRESETS[words[1]][1].quantizer
    assert notes == ["start it with torchrun --nproc-per-node 8 -m fqgan train ..."]


def test_what_differs_is_given_as_options():
    config, words, notes = trained(
        README.format(data="ffhq").replace("45", "4,5,10").replace("=100", "=10")
        + " --metrics=none --result-dir=out --decay=0.9"
    )
    assert words[1] == "stylegan2-ffhq1024"
    assert config.quantizer.layers == (4, 5, 10)
    assert config.quantizer.decay == 0.9
    assert config.step.r1_weight == 10
    assert config.evaluate_kimg == 0
    assert config.run_dir == "out"
    assert any("ffhq is taken to have 1024 pixels" in note for note in notes)


def test_plain_networks_and_configurations_without_quantizer():
    config, words, _ = trained(README.format(data="ffhq").replace("D_type=1", "D_type=0"))
    assert words[1] == "stylegan2-ffhq1024-baseline"
    command = "run_training.py --data-dir d --dataset ffhq --config config-a --mirror-augment=true"
    config, words, notes = trained(command)
    assert words[1] == "stylegan2-config-a"
    assert not config.quantizer.layers
    assert any("has no feature quantization" in note for note in notes)


@pytest.mark.parametrize(
    ("command", "kind", "expected"),
    [
        (
            "run_generator.py generate-images --network=a/net.pkl --seeds=6600-6603,7",
            SampleConfig,
            {"seeds": ("6600-6603,7",), "truncation": 0.5},
        ),
        (
            "run_generator.py style-mixing-example --network=net.pkl --row-seeds=85,100 "
            "--col-seeds=55 --truncation-psi=1.0",
            SampleConfig,
            {"rows": ("85,100",), "columns": ("55",), "mixing_layers": ("0-6",), "truncation": 1},
        ),
        (
            "run_projector.py project-generated-images --network=net.pkl --seeds=0,1,5",
            ProjectConfig,
            {"seeds": ("0,1,5",), "num_snapshots": 5, "truncation": 1.0},
        ),
        (
            "run_projector.py project-real-images --network=net.pkl --dataset=car --data-dir=d",
            ProjectConfig,
            {"num_images": 3},
        ),
        (
            "run_metrics.py --network=net.pkl --metrics=fid50k,ppl_wend --dataset=ffhq "
            "--data-dir=d --mirror-augment=true",
            EvaluateConfig,
            {"metrics": ("fid50k", "ppl_wend")},
        ),
    ],
)
def test_the_tools_have_commands_that_parse(command, kind, expected):
    convert, (words, _) = translate(["python", *command.split()])
    assert convert.command[:2] == ["convert", "stylegan2"]
    config = parse(kind, words[1:], "test")
    assert config.weights == convert.command[3] == "converted/net"
    assert {name: getattr(config, name) for name in expected} == expected


def test_what_their_parser_refuses_is_refused():
    with pytest.raises(ValueError, match=r"would not accept this.*--config"):
        translate(["run_training.py", "--data-dir", "d", "--dataset", "ffhq"])
    words = "--data-dir d --dataset x --config config-e --mirror-augment=perhaps"
    with pytest.raises(ValueError, match="true or false expected"):
        translate(["run_training.py", *words.split()])
    assert len(SCRIPTS) == 4
