"""The architecture of the two Inception networks."""

import pytest
import torch
from torch.nn import functional as F

from fqgan.metrics.networks import Convolution, InceptionV3, Mixed, Step

WITHOUT_AUXILIARY_HEAD = 23_834_568
"""With 1000 classes: torchvision publishes 27,161,264, of which 3,326,696 are that head's."""


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)
    return {variant: InceptionV3(variant).eval() for variant in ("fid", "torchvision")}


def test_the_number_of_parameters_is_the_published_one(networks):
    count = {name: sum(p.numel() for p in net.parameters()) for name, net in networks.items()}
    assert count["torchvision"] == WITHOUT_AUXILIARY_HEAD
    assert count["fid"] == WITHOUT_AUXILIARY_HEAD + 8 * 2049


def test_keys_and_shapes_are_those_of_the_published_files(networks):
    state = networks["fid"].state_dict()
    shapes = {
        "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
        "Conv2d_4a_3x3.bn.running_var": (192,),
        "Mixed_5b.branch5x5_2.conv.weight": (64, 48, 5, 5),
        "Mixed_5d.branch_pool.conv.weight": (64, 288, 1, 1),
        "Mixed_6a.branch3x3.conv.weight": (384, 288, 3, 3),
        "Mixed_6c.branch7x7dbl_3.conv.weight": (160, 160, 1, 7),
        "Mixed_6e.branch7x7_3.conv.weight": (192, 192, 7, 1),
        "Mixed_7a.branch7x7x3_4.conv.weight": (192, 192, 3, 3),
        "Mixed_7b.branch3x3dbl_3b.conv.weight": (384, 384, 3, 1),
        "Mixed_7c.branch3x3_2a.conv.weight": (384, 384, 1, 3),
        "Mixed_7c.branch_pool.bn.bias": (192,),
        "fc.weight": (1008, 2048),
    }
    for name, shape in shapes.items():
        assert tuple(state[name].shape) == shape, name
    # 94 convolutions with a weight and five tensors of normalization each, and the classifier.
    assert len(state) == 94 * 6 + 2


def test_outputs_have_the_published_sizes(networks):
    with torch.no_grad():
        for variant, classes in (("fid", 1008), ("torchvision", 1000)):
            output = networks[variant](torch.randn(1, 3, 299, 299))
            assert output.pool.shape == (1, 2048)
            assert output.logits.shape == (1, classes)


def test_only_the_tensorflow_logits_leave_the_bias_out(networks):
    images = torch.randn(1, 3, 299, 299)
    with torch.no_grad():
        for variant, net in networks.items():
            pool, logits = net(images)
            wanted = pool @ net.fc.weight.T + (0 if variant == "fid" else net.fc.bias)
            torch.testing.assert_close(logits, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pool", ["average", "average-inside", "max"])
def test_pooling_branches_treat_the_border_as_named(pool):
    torch.manual_seed(1)
    block = Mixed(4, [[Step("branch1x1", 2)]], pool, 3).eval()
    x = torch.randn(2, 4, 5, 5)
    if pool == "max":
        pooled = F.max_pool2d(x, 3, 1, 1)
    else:
        ones = F.avg_pool2d(torch.ones_like(x), 3, 1, 1)  # 4/9 in corners
        pooled = F.avg_pool2d(x, 3, 1, 1) / (ones if pool == "average-inside" else 1)
    expected = torch.cat([block.branch1x1(x), block.branch_pool(pooled)], 1)
    torch.testing.assert_close(block(x), expected)


def test_the_variants_pool_as_published(networks):
    fid, torch_net = networks["fid"], networks["torchvision"]
    assert fid.Mixed_7c._pool == "max"
    assert fid.Mixed_7b._pool == fid.Mixed_5b._pool == "average-inside"
    assert torch_net.Mixed_7c._pool == torch_net.Mixed_6e._pool == "average"


def test_convolutions_keep_the_size_only_at_stride_1():
    x = torch.randn(1, 3, 9, 9)
    assert Convolution(3, Step("", 2, (1, 7)))(x).shape == (1, 2, 9, 9)
    assert Convolution(3, Step("", 2, (3, 3), 2))(x).shape == (1, 2, 4, 4)
