"""Growing networks: recorded ones of every kind, and what fading must and must not change."""

from __future__ import annotations

import json
import math

import pytest
import torch
from factories import Recorded, relative_error
from torch.nn import functional as F

from fqgan.data.images import normalize
from fqgan.released.stylegan2 import NetworkRecord, from_tf
from fqgan.stylegan2.config import (
    DiscriminatorConfig,
    GeneratorConfig,
    MappingConfig,
    QuantizerConfig,
    Stylegan2Config,
)
from fqgan.stylegan2.legacy import (
    StyledLayer,
    build_discriminator,
    build_generator,
    enlarge,
    fade_reals,
    grow_image,
    grown_to,
    shrink,
    shrink_features,
)

TOLERANCE = 1e-4


def tiny(architecture, **changes):
    return Stylegan2Config(
        resolution=16,
        mapping=MappingConfig(6, 6, 6, 2),
        generator=GeneratorConfig(architecture, 64, 8),
        discriminator=DiscriminatorConfig(architecture, 64, 8),
        quantizer=QuantizerConfig(layers=()),
        **changes,
    )


@pytest.fixture(params=["growing", "stylegan1"])
def config(request):
    return tiny(request.param)


def test_the_image_fades_linearly_from_one_resolution_to_the_next(config):
    generator, latents = build_generator(config).eval(), torch.randn(2, 6)
    images = [generator(latents, noise="fixed", lod=lod) for lod in (0.0, 0.25, 1.0, 2.0)]
    assert all(image.shape == (2, 3, 16, 16) for image in images)
    torch.testing.assert_close(images[1], 0.75 * images[0] + 0.25 * images[2])
    torch.testing.assert_close(images[3], enlarge(shrink(images[3], 4), 4))


def test_the_discriminator_sees_no_details_above_its_resolution(config):
    discriminator, images = build_discriminator(config), torch.randn(4, 3, 16, 16)
    coarse = enlarge(shrink(images, 2), 2)
    for lod in (1.0, 1.5, 2.0):
        torch.testing.assert_close(
            discriminator(images, lod=lod).logits, discriminator(coarse, lod=lod).logits
        )
    assert not torch.allclose(discriminator(images).logits, discriminator(coarse).logits)


def test_layers_above_the_resolution_get_no_gradient(config):
    generator, discriminator = build_generator(config), build_discriminator(config)
    judged = discriminator(generator(torch.randn(4, 6), lod=1.0), lod=1.0)
    judged.logits.sum().backward()
    for network in (generator.synthesis, discriminator):
        gradients = {name: p.grad for name, p in network.blocks.named_parameters()}
        used = {name for name, gradient in gradients.items() if gradient is not None}
        assert used == {name for name in gradients if not name.startswith("16.")}


def test_second_derivatives_exist(config):
    discriminator = build_discriminator(config)
    images = torch.randn(4, 3, 16, 16, requires_grad=True)
    scores = discriminator(images, lod=0.5).logits.sum()
    (gradient,) = torch.autograd.grad(scores, images, create_graph=True)
    gradient.square().sum().backward()
    weights = [p for p in discriminator.parameters() if p.ndim == 4 and p.grad is not None]
    assert weights
    assert all(torch.isfinite(p.grad).all() for p in weights)


def test_label_vectors_are_needed_where_there_are_classes():
    for architecture in ("growing", "stylegan1"):
        config = tiny(architecture, label_size=3)
        discriminator, images = build_discriminator(config), torch.randn(4, 3, 16, 16)
        with pytest.raises(ValueError, match=r"needs classes .* or label vectors"):
            discriminator(images)
        one_hot = torch.eye(3)[[0, 1, 2, 0]]
        assert discriminator(images, one_hot).logits.shape == (4,)
        with pytest.raises(ValueError, match=r"needs classes .* or label vectors"):
            build_generator(config)(torch.randn(1, 6))


def test_flipped_filters_equal_the_fused_transposed_convolution():
    # The authors' fused layer: filters summed over 2 x 2 shifts, then a transposed convolution.
    layer = StyledLayer(3, 5, 4, up=True, flipped=True).eval()
    x = torch.randn(1, 3, 6, 6)
    weight = F.pad(layer.weight * layer.scale, (1, 1, 1, 1))
    summed = sum(weight[..., i : i + 4, j : j + 4] for i in (0, 1) for j in (0, 1))
    expected = F.conv_transpose2d(x, summed.transpose(0, 1), stride=2, padding=1)
    ours = F.conv2d(enlarge(x, 2), (layer.weight * layer.scale).flip(2, 3), padding=1)
    torch.testing.assert_close(ours, expected)


def recorded_cases(golden):
    path = golden / "stylegan" / "legacy_networks.npz"
    if not path.is_file():
        pytest.skip("no recorded growing networks")
    arrays = Recorded(path)
    return json.loads(path.with_suffix(".json").read_text()), arrays


def settings_of(recorded):
    """The configuration of one recorded network; the other of the pair gets what fits."""
    function = recorded["func"].split(".")[-1]
    return NetworkRecord("N", function, recorded["kwargs"], {}, {}).settings()


@pytest.mark.golden
def test_recorded_networks_agree(golden):
    cases, arrays = recorded_cases(golden)
    for tag, recorded in cases.items():
        config = settings_of(recorded)
        own = arrays.state(tag)
        variables = {name[4:]: value for name, value in own.items() if name.startswith("var/")}
        assert set(variables) == set(recorded["vars"]), tag
        is_generator = "z" in own
        network = (build_generator if is_generator else build_discriminator)(config).eval()
        network.load_state_dict(from_tf(variables))
        outputs = [name for name in own if name.startswith("out")]
        assert outputs, tag
        for name in outputs:
            words = dict(_word(part) for part in name.split("_")[1:])
            lod, labels = words.get("lod", 0.0), own.get("labels")
            with torch.no_grad():
                if is_generator:
                    found = network(
                        own["z"], labels, truncation=words["psi"], noise="fixed", lod=lod
                    )
                else:
                    found = network(own["x"], labels, lod=lod).logits[:, None]
            assert relative_error(found, own[name]) < TOLERANCE, f"{tag}/{name}"


def _word(part):
    """("psi", 0.7) of "psi.7"."""
    return part[:3], float(part[3:])


# uint8 levels as floats, averaged in another order.
GROWING_TOLERANCE = 1e-6


def test_shrinking_undoes_enlarging():
    images = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(shrink(enlarge(images, 4), 4), images)
    assert enlarge(images, 1) is images


def test_reals_fade_to_half_the_resolution():
    images = torch.tensor([0.0, 4.0, 8.0, 8.0, 0.0, 0.0, 0.0, 0.0]).expand(1, 1, 8, 8)
    assert fade_reals(images, 0.25)[0, 0, 0, :4].tolist() == [0.5, 3.5, 8.0, 8.0]
    assert fade_reals(images, 1.0)[0, 0, 0, :4].tolist() == [2.0, 2.0, 8.0, 8.0]
    assert torch.equal(fade_reals(images, 0.0), images)


def test_an_image_is_made_of_the_last_two_resolutions():
    # Features count the blocks that were run; an image of a level is its number.
    def features(level, x):
        return torch.zeros(1, 1, 2**level, 2**level) if x is None else enlarge(x, 2) + 1

    def to_rgb(level, x):
        return x + 10 * level

    assert grow_image(4, 0.0, features, to_rgb).unique().tolist() == [42]
    assert grow_image(4, 0.5, features, to_rgb).unique().tolist() == [(42 + 31) / 2]
    image = grow_image(4, 1.0, features, to_rgb)
    assert image.shape[-1] == 16
    assert image.unique().tolist() == [31]


def test_features_begin_where_the_networks_have_grown_to():
    seen = []

    def from_rgb(level, images):
        seen.append((level, images.shape[-1]))
        return images

    def block(level, x):
        return shrink(x, 2)

    images = torch.randn(1, 1, 16, 16)
    for lod in (0.0, 0.5, 1.0, 2.0):
        assert shrink_features(images, lod, from_rgb, block).shape[-1] == 4
    assert seen == [(4, 16), (4, 16), (3, 8), (3, 8), (2, 4)]


@pytest.mark.parametrize("lod", [-0.1, 2.5])
def test_a_lod_outside_the_network_is_refused(lod):
    with pytest.raises(ValueError, match=r"lod must be in \[0, 2\]"):
        grown_to(4, lod)


@pytest.mark.golden
@pytest.mark.cases("stylegan/data_and_images.npz")
def test_recorded_images_fade_alike(case):
    recorded = Recorded(case)
    images = normalize(recorded["process_reals/in"])
    names = [name for name in recorded.names if name.startswith("process_reals/lod")]
    if not names:
        pytest.skip("no recorded fading")
    for name in names:
        lod = float(name.removeprefix("process_reals/lod"))
        # The recorded input has the resolution that belongs to the lod.
        full = enlarge(images, 2 ** math.floor(lod))
        torch.testing.assert_close(
            fade_reals(full, lod), recorded[name], rtol=GROWING_TOLERANCE, atol=GROWING_TOLERANCE
        )
