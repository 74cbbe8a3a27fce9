"""What the families' quantizers have in common."""

import pytest

from fqgan.quantizer import QuantizerOptions


def test_a_quantizer_is_built_as_the_options_say():
    options = QuantizerOptions(
        layers=(1,), commitment_weight=0.5, decay=0.7, forward="straight_through", warmup_calls=3
    )
    built = options.build(6, 16, "tf")
    assert (built.channels, built.codebook_size, built.numerics) == (6, 16, "tf")
    assert (built.commitment_weight, built.decay, built.warmup_calls) == (0.5, 0.7, 3)
    assert built.forward_mode == "straight_through"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codebook_size": -1}, "--quantizer.codebook-size must not be negative"),
        ({"revive_below": -1.0}, "--quantizer.revive-below must not be negative"),
        ({"decay": 1.0}, r"--quantizer.decay must be in \[0, 1\)"),
        ({"layers": (1, 1)}, "--quantizer.layers must be different"),
        ({"layers": (-1,)}, "--quantizer.layers must be different"),
    ],
)
def test_options_out_of_range_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        QuantizerOptions(**changes)
