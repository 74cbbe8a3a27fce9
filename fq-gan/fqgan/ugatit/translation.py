"""From a folder of weights to translated pictures: reading, fine-tuning, translating, sheets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from ..data.images import UNREADABLE, normalize, open_image, to_bytes
from ..data.unpaired import FITS, Resize
from ..pictures import save_sheet
from ..quantizer import with_own_dictionaries
from ..runs import (
    first_weights,
    initial_folder,
    load_first,
    load_network,
    load_ready,
    read_folder,
    save_folder,
)
from ..runtime.checkpoint import read_part
from ..runtime.files import why
from ..runtime.options import require_choice, whole_number
from ..runtime.weight_files import read_weight_file
from .config import UgatitConfig
from .networks import Discriminator, Generator, Translated, UgatitNetworks, build_networks
from .step import UgatitStep

GENERATORS, JUDGES = ("a_to_b", "b_to_a"), ("judge_a", "judge_b")


class Weights(NamedTuple):
    config: UgatitConfig
    a_to_b: Generator  # in eval mode
    b_to_a: Generator  # in eval mode
    domain_names: tuple[str, str]  # A, B
    step: int  # iterations behind these weights


def save_weights(
    folder: str | Path,
    networks: UgatitNetworks,
    *,
    domain_names: Sequence[str] = ("A", "B"),
    discriminators: bool = True,
    step: int = 0,
) -> Path:
    """Write a folder that `load_weights` reads, in place of an older one and in one move.

    Args:
        folder: to be written.
        networks: all four.
        domain_names: what to call the domains A and B.
        discriminators: save them too, for fine-tuning.
        step: iterations behind these weights.
    """
    names = (*GENERATORS, *JUDGES) if discriminators else GENERATORS
    return save_folder(
        folder, {name: getattr(networks, name) for name in names}, networks.config,
        domain_names=list(domain_names), step=step,
    )  # fmt: skip


def load_weights(
    folder: str | Path, *, step: int | None = None, device: torch.device | str = "cpu"
) -> Weights:
    """Read the generators that `save_weights` wrote, or those of the checkpoint of ``step``.

    Raises:
        FileNotFoundError: there are no weights in ``folder``.
        ValueError: the weights do not fit the configuration beside them.
    """
    folder = Path(folder)
    config, beside = read_folder(folder, UgatitConfig, *GENERATORS)
    first, second = beside.get("domain_names", ("A", "B"))
    if step is None:
        files = (folder / f"{name}.safetensors" for name in GENERATORS)
        a_to_b, b_to_a = (load_ready(Generator(config), file, device) for file in files)
        return Weights(config, a_to_b, b_to_a, (first, second), beside.get("step", 0))
    networks = build_networks(config)
    networks.load_state_dict(read_part(folder.parent, "networks", step)[0])
    a_to_b, b_to_a = (one.to(device).eval() for one in networks.generators())
    return Weights(config, a_to_b, b_to_a, (first, second), step)


def load_discriminators(
    folder: str | Path, *, device: torch.device | str = "cpu"
) -> tuple[Discriminator, Discriminator]:
    """Discriminators of A and B with their dictionaries, in eval mode; see `load_network`."""
    first, second = (
        load_network(folder, UgatitConfig, Discriminator, name=name, device=device)
        for name in JUDGES
    )
    return first, second


def start_from(
    folder: str | Path, networks: UgatitNetworks, step: UgatitStep | None = None
) -> None:
    """Fine-tuning: load the networks of ``folder``, and Adam's moments where ``step`` is given.

    A folder without discriminators or moments leaves those as they are; dictionaries that the
    folder lacks or has in another size start anew.

    Raises:
        FileNotFoundError: there are no weights in ``folder``.
        ValueError: they belong to other networks.
    """
    folder = initial_folder(folder, UgatitConfig.kind)
    first_weights(folder, GENERATORS[0])
    for name in (*GENERATORS, *JUDGES):
        path = folder / f"{name}.safetensors"
        if not path.exists():
            continue
        network = getattr(networks, name)
        saved = with_own_dictionaries(network, read_weight_file(path))
        load_first(network, path, saved, networks.config)
    if step is not None and (folder / "moments.safetensors").exists():
        load_moments(read_weight_file(folder / "moments.safetensors"), step)


FIRST, SECOND = ".exp_avg", ".exp_avg_sq"
GENERATOR_UPDATES, JUDGE_UPDATES = "generator_updates", "discriminator_updates"


def load_moments(moments: Mapping[str, Tensor], step: UgatitStep) -> None:
    """Continue with ``moments``; the learning rate stays that of ``step``.

    Args:
        moments: ``NETWORK.PARAMETER.exp_avg`` and ``.exp_avg_sq``, such as
            ``a_to_b.first.weight.exp_avg``, and the numbers of updates behind them,
            ``generator_updates`` and ``discriminator_updates``.
        step: the iteration whose optimizers get them.

    Raises:
        ValueError: a parameter has none, or of another shape.
    """
    names = {parameter: name for name, parameter in step.networks.named_parameters()}
    optimizers = [(step.generator_optimizer, GENERATOR_UPDATES)]
    optimizers += [(one, JUDGE_UPDATES) for one in step.discriminator_optimizers]
    for optimizer, updates in optimizers:
        saved = optimizer.state_dict()
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        for number, parameter in enumerate(parameters):
            name = names[parameter]
            found = [moments.get(name + FIRST), moments.get(name + SECOND)]
            if any(one is None or one.shape != parameter.shape for one in found):
                shapes = [None if one is None else list(one.shape) for one in found]
                raise ValueError(
                    f"the moments of {name} do not fit it: {shapes} where it has "
                    f"{list(parameter.shape)}; leave the moments out"
                )
            saved["state"][number] = {
                "step": torch.as_tensor(moments[updates], dtype=torch.float32),
                "exp_avg": found[0],
                "exp_avg_sq": found[1],
            }
        optimizer.load_state_dict(saved)


Picture = str | Path | bytes | BinaryIO
Direction = Literal["a2b", "b2a"]
Shape = Literal["stretch", "crop"]


class Translator:
    """Both generators of a pair of domains, ready for pictures.

    Args:
        weights: from `load_weights`, on their device.
        size: width and height that pictures are brought to; 0 takes that of the training, which a
            full generator insists on.
        shape: ``stretch`` as the authors do, or ``crop`` the square in the middle.
        resize: ``legacy`` as the authors do at tests, or ``modern`` with antialiasing.

    Raises:
        ValueError: a full generator with another ``size``.
    """

    def __init__(
        self,
        weights: Weights,
        *,
        size: int = 0,
        shape: Shape = "stretch",
        resize: Resize = "legacy",
    ) -> None:
        whole_number(size, "--size")
        require_choice("shape", shape, Shape)
        require_choice("resize", resize, Resize)
        trained = weights.config.image_size
        if size not in (0, trained) and not weights.config.generator.light:
            raise ValueError(
                f"--size {size}: these weights translate {trained} pixels only; leave it out, or "
                "use weights of a light generator"
            )
        if size and (size < 8 or size % 4):
            raise ValueError(f"--size must be a multiple of 4 from 8, got {size}")
        self.weights, self.size, self.shape, self.resize = weights, size or trained, shape, resize
        self.device = next(weights.a_to_b.parameters()).device

    def read(self, picture: Picture) -> Tensor:
        """A picture as (1, 3, size, size) in [-1, 1], on the device.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is no picture.
        """
        if not isinstance(picture, str | Path | bytes) and not hasattr(picture, "read"):
            raise TypeError(
                f"a picture must be a path, its bytes or an open file, got {type(picture).__name__}"
            )
        name = str(picture) if isinstance(picture, str | Path) else "the picture"
        try:
            upright = open_image(picture)
        except FileNotFoundError:
            raise FileNotFoundError(f"{name} does not exist") from None
        except UNREADABLE as error:
            raise ValueError(f"{name} cannot be read as an image ({why(error)})") from error
        if self.shape == "crop":
            upright = ImageOps.fit(upright, (min(upright.size),) * 2)
        levels = FITS[self.resize, "test"](upright, self.size, 0.5)
        pixels = torch.from_numpy(np.ascontiguousarray(levels.transpose(2, 0, 1)))[None]
        return normalize(pixels).to(self.device)

    def generators(self, direction: Direction) -> tuple[Generator, Generator]:
        """The generator of ``direction`` and the one that leads back."""
        require_choice("direction", direction, Direction)
        pair = (self.weights.a_to_b, self.weights.b_to_a)
        return pair if direction == "a2b" else pair[::-1]

    @torch.no_grad()
    def translate(self, images: Tensor, direction: Direction) -> Translated:
        """Translate ``images`` (B, 3, H, W) of `read`."""
        return self.generators(direction)[0](images)

    def __call__(self, picture: Picture, direction: Direction = "a2b") -> Image.Image:
        """Translate one picture, of any mode, to one of ``size`` pixels."""
        translated = self.translate(self.read(picture), direction).images[0]
        return Image.fromarray(to_bytes(translated.cpu()).permute(1, 2, 0).numpy())


Translate = Callable[[Tensor], Translated]
COLUMNS = 7


def heat_colours(heatmap: Tensor, height: int, width: int) -> Tensor:
    """Heat maps (B, h, w) from blue (least) to red (most): (B, 3, height, width) in [-1, 1]."""
    lowest, highest = (
        bound(heatmap, dim=(1, 2), keepdim=True) for bound in (torch.amin, torch.amax)
    )
    heat = (heatmap - lowest) / (highest - lowest).clamp(min=1e-8)
    heat = F.interpolate(heat[:, None], (height, width), mode="bilinear", align_corners=False)
    centres = torch.tensor([0.75, 0.5, 0.25], device=heat.device).view(1, 3, 1, 1)
    return (1.5 - (4 * (heat - centres)).abs()).clamp(0, 1) * 2 - 1


@torch.no_grad()
def comparison(images: Tensor, there: Translate, back: Translate) -> Tensor:
    """What ``there`` and ``back`` make of ``images`` (B, 3, H, W), in the authors' order.

    Returns:
        (7 B, 3, H, W), seven of every image: itself; heat map and result of ``back``, which should
        leave it alone; of ``there``, the translation; and of the translation sent back.
    """
    height, width = images.shape[2:]
    same, translated = back(images), there(images)
    returned = back(translated.images)
    columns = [images]
    for step in (same, translated, returned):
        columns += [heat_colours(step.heatmap.float(), height, width), step.images]
    return torch.stack(columns, dim=1).flatten(0, 1)


def save_comparison(images: Tensor, there: Translate, back: Translate, path: str | Path) -> Path:
    """Write the `comparison` of ``images`` as one PNG, a row for each image."""
    rows = [comparison(image[None], there, back) for image in images]
    return save_sheet(torch.cat(rows), path, COLUMNS)
