"""``fqgan translate`` and ``fqgan evaluate`` of U-GAT-IT: pictures in both directions, KID."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..data.images import require_images, to_bytes
from ..data.unpaired import Resize, UnpairedConfig, build_domains, list_images
from ..pictures import save_image
from ..runs import WeightOptions, open_run, run_of
from ..runtime import distributed
from ..runtime.command import parse
from ..runtime.options import at_least
from ..scoring import print_evaluation, record_evaluation
from .config import TranslationScoring, directions
from .train import TranslationScorer
from .translation import Direction, Shape, Translator, heat_colours, load_weights, save_comparison

STDIN = "-"


@dataclass(frozen=True)
class TranslateConfig(WeightOptions):
    """Translate pictures with a run or a folder of weights."""

    input: str = ""
    """A picture, a folder of pictures, - for one on standard input; empty: a run's test images."""
    direction: Literal["auto", "a2b", "b2a", "both"] = "auto"
    """From domain A to B, from B to A; auto: both for a run's test images, a2b for --input."""
    out: str = ""
    """Where pictures go; empty: translations/ in the folder of the run or of the weights."""
    heatmaps: bool = False
    """Also write where the generator looks, as NAME_heatmap.png."""
    sheet: int = 0
    """Also write a sheet that compares so many inputs; columns in the authors' order."""
    limit: int = 0
    """Translate only the first so many pictures of a folder; 0: all."""
    size: int = 0
    """Width and height; 0: those of the training. Only light generators take others."""
    shape: Shape = "stretch"
    """stretch a picture that is not square, as the authors do, or crop its middle."""
    resize: Resize = "legacy"
    """legacy: as the authors at tests; modern: antialiased."""
    truncate: bool = False
    """Cut off fractions of the 256 levels, as the authors do, instead of rounding."""
    device: str = "auto"
    """auto, cpu or cuda."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, sheet=0, limit=0)


def translate_main(argv: Sequence[str]) -> None:
    """Run ``fqgan translate --run-dir RUN --input photo.jpg``."""
    for path in translate(parse(TranslateConfig, argv, "fqgan translate")):
        print(path)


def translate(config: TranslateConfig) -> list[Path]:
    """Write what ``config`` asks for; returns the files.

    Raises:
        FileNotFoundError: no weights, or no such input.
        ValueError: an input is no picture.
    """
    source = config.source("ugatit")
    with distributed.start(config.device) as world:
        weights = load_weights(source.folder, step=source.step, device=world.device)
        translator = Translator(weights, size=config.size, shape=config.shape, resize=config.resize)
        out = Path(config.out) if config.out else source.home / "translations"
        names = directions(weights.domain_names)
        written: list[Path] = []
        chosen = inputs_of(config)
        for inputs in chosen.values():  # all, before anything is written
            require_images([path for path in inputs if str(path) != STDIN])
        for direction, inputs in chosen.items():
            folder = out / names[direction == "b2a"]
            written += write_all(config, translator, direction, inputs, folder)
    return written


def inputs_of(config: TranslateConfig) -> dict[Direction, list[Path]]:
    """Pictures for each direction; ``-`` stays as it is.

    Raises:
        FileNotFoundError, ValueError: there is nothing to translate.
    """
    asked = config.direction
    if asked == "auto":
        asked = "a2b" if config.input else "both"
    chosen: list[Direction] = ["a2b", "b2a"] if asked == "both" else [asked]
    if config.input:
        return {direction: pictures(config.input, config.limit) for direction in chosen}
    if not config.run_dir:
        raise ValueError("nothing to translate: give --input FILE, FOLDER or -")
    data = open_run(config.run_dir, "ugatit").config.data
    if data.source == "toy":
        raise ValueError(
            "the toy images of this run are no files: give --input, such as a folder of "
            "`fqgan prepare toy-domains`"
        )
    folders: dict[Direction, Path] = {
        "a2b": Path(data.path) / "testA",
        "b2a": Path(data.path) / "testB",
    }
    return {direction: pictures(folders[direction], config.limit) for direction in chosen}


def pictures(place: str | Path, limit: int) -> list[Path]:
    """The picture or pictures at ``place``."""
    path = Path(place)
    if str(place) == STDIN or path.is_file():
        return [path]
    if not path.is_dir():
        raise FileNotFoundError(f"--input {place} is neither a file nor a folder")
    names, _ = list_images(path)
    if not names:
        raise ValueError(f"--input {place} holds no image")
    return [path / name for name in names[: limit or None]]


def write_all(
    config: TranslateConfig,
    translator: Translator,
    direction: Direction,
    inputs: Sequence[Path],
    folder: Path,
) -> list[Path]:
    """Translate ``inputs`` into ``folder``; PNG files under the names of the inputs."""
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    compared: list[Tensor] = []
    stems = [path.stem for path in inputs]
    for path in inputs:
        upload = str(path) == STDIN
        image = translator.read(sys.stdin.buffer.read() if upload else path)
        translated = translator.translate(image, direction)
        # Two inputs that differ in their ending only must not overwrite each other.
        name = path.stem if stems.count(path.stem) == 1 else path.name
        target = folder / f"{'picture' if upload else name}.png"
        save_image(to_bytes(translated.images[0].cpu(), truncate=config.truncate), target)
        written.append(target)
        if config.heatmaps:
            colours = heat_colours(translated.heatmap.float(), *image.shape[2:])
            written.append(target.with_name(f"{target.stem}_heatmap.png"))
            save_image(to_bytes(colours[0].cpu()), written[-1])
        if len(compared) < config.sheet:
            compared.append(image)
    if compared:
        there, back = translator.generators(direction)
        sheet = folder.with_name(f"{folder.name}_sheet.png")
        written.append(save_comparison(torch.cat(compared), there, back, sheet))
    return written


@dataclass(frozen=True)
class EvaluateConfig(WeightOptions):
    """Score the translations of the test images. A run brings its own settings."""

    seed: int = 0
    """Of the toy images."""
    device: str = "auto"
    """auto, cpu or cuda."""
    data: UnpairedConfig = field(default_factory=UnpairedConfig)
    scoring: TranslationScoring = field(default_factory=lambda: TranslationScoring("inception"))

    def unused(self) -> dict[str, str]:
        """Options without an effect on these scores; see `refuse_unused`."""
        reason = "scores are of the test images as they are; drop it"
        training = {"--data.augment": reason, "--data.enlarge": reason}
        return {**self.data.unused(), **self.scoring.unused(), **training}


def evaluate_main(argv: Sequence[str]) -> None:
    """Run ``fqgan evaluate --run-dir runs/ugatit``; two rows, one a direction."""
    default = EvaluateConfig()
    if found := run_of(argv, "ugatit"):
        run = found.config
        default = EvaluateConfig(data=run.data, scoring=run.scoring, seed=run.seed)
    print_evaluation(
        evaluate(
            parse(
                EvaluateConfig,
                argv,
                "fqgan evaluate",
                default=default,
                unused=EvaluateConfig.unused,
            )
        )
    )


def evaluate(config: EvaluateConfig) -> list[dict[str, Any]]:
    """Score what ``config`` names and add a line a direction to ``evaluations.jsonl`` beside it."""
    source = config.source("ugatit")
    with distributed.start(config.device, seed=config.seed) as world:
        weights = load_weights(source.folder, step=source.step, device=world.device)
        if config.data.resolution != weights.config.image_size and not weights.a_to_b.light:
            raise ValueError(
                f"--data.resolution {config.data.resolution}: these weights translate images of "
                f"{weights.config.image_size} pixels"
            )
        domains = build_domains(config.data, "test", seed=config.seed)
        scorer = TranslationScorer(config.scoring, domains, weights.domain_names, world.device)
        facts = {
            "weights": str(source.folder),
            "step": weights.step,
            "split": "test",
            "subsets": config.scoring.subsets,
            "subset_size": scorer.subset_size,
            **({"limit": config.data.limit} if config.data.limit else {}),
        }
        rows = []
        for place, (name, found) in enumerate(scorer(weights.a_to_b, weights.b_to_a).items()):
            row = {**found, "data": name, "num_images": len(domains[place]), **facts}
            rows.append(record_evaluation(source.home, row, scorer.extractor))
    return rows
