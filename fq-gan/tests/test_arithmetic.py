"""What is promised to be IEEE fp32 has no product or convolution in TF32: flags are read inside."""

from dataclasses import replace

import pytest
import torch
from stylegan_cases import tiny_config as tiny_style, tiny_step as tiny_style_step
from torch.utils._python_dispatch import TorchDispatchMode
from ugatit_cases import image_pair, tiny_networks as tiny_ugatit

from fqgan.biggan.layers import LayerFactory
from fqgan.metrics.features import FIDInception
from fqgan.metrics.networks import InceptionV3
from fqgan.quantizer import FeatureQuantizer
from fqgan.runtime.precision import arithmetic, set_numerics
from fqgan.spectral_norm import normalized_weights
from fqgan.stylegan2.legacy import build_discriminator, build_generator
from fqgan.stylegan2.step import GanStep as StyleStep
from fqgan.ugatit.config import ScheduleConfig, StepConfig
from fqgan.ugatit.networks import build_networks
from fqgan.ugatit.step import UgatitStep

PRODUCTS = {"mm", "addmm", "bmm", "baddbmm", "mv", "convolution", "convolution_backward"}
IEEE, TF32 = ("ieee",) * 3, ("tf32",) * 3


class Products(TorchDispatchMode):
    """In which arithmetic every product and convolution ran."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in PRODUCTS:
            self.found.append((name, arithmetic()))
        return func(*args, **(kwargs or {}))


@pytest.fixture
def products():
    """Called with a function: in what it multiplies where TF32 is allowed outside."""
    before = arithmetic(), torch.backends.cudnn.benchmark

    def of(function):
        set_numerics()
        with Products() as seen:
            function()
        return [kind for _, kind in seen.found]

    yield of
    set_numerics(deterministic=before[0] == IEEE)
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = before[1]
    matmul, conv, rnn = before[0]
    torch.backends.cuda.matmul.fp32_precision = matmul
    torch.backends.cudnn.conv.fp32_precision = conv
    torch.backends.cudnn.rnn.fp32_precision = rnn


def test_distances_of_the_quantizer(products):
    layer, features = FeatureQuantizer(6, 8), torch.randn(2, 6, 4, 4)
    assert set(products(lambda: layer(features))) == {IEEE}


@pytest.mark.parametrize("together", [False, True])
def test_spectral_norms(products, together):
    layers = torch.nn.ModuleList(LayerFactory(True, 1, 1, 1e-8).linear(4, 6) for _ in range(2))

    def normalize():
        with normalized_weights(layers, together=together):
            pass

    assert set(products(normalize)) == {IEEE}


def test_features_of_scores(products):
    extractor = FIDInception(InceptionV3(), "random").eval()
    assert set(products(lambda: extractor(torch.rand(2, 3, 32, 32) * 2 - 1))) == {IEEE}


def test_r1_and_path_lengths_with_their_gradients(products):
    config = tiny_style()
    step = StyleStep(build_generator(config), build_discriminator(config), tiny_style_step())
    images = torch.rand(4, 3, 16, 16) * 2 - 1
    for network in (step.generator, step.discriminator):
        network.requires_grad_(True)
    assert set(products(lambda: step._r1_step([(images, None)], 0.0))) == {IEEE}
    assert set(products(lambda: step._path_length_step(0.0))) == {IEEE}


@pytest.mark.parametrize(("loss", "gradients"), [("wgan-gp", {IEEE}), ("lsgan", {TF32})])
def test_gradients_of_the_gradient_penalty(products, loss, gradients, monkeypatch):
    config = tiny_ugatit()
    options = replace(StepConfig(), loss=loss)
    step = UgatitStep(build_networks(config), options, ScheduleConfig())
    (direction, _, real), _ = step._directions(*image_pair(config, 2))
    backward, found = direction.precision.backward, []

    def watched(total, optimizer):
        with Products() as seen:
            backward(total, optimizer)
        found.extend(kind for _, kind in seen.found)

    monkeypatch.setattr(direction.precision, "backward", watched)
    products(lambda: step._discriminator_step(direction, real, real.flip(0)))
    assert set(found) == gradients
