"""Every preset leads on from one that exists and has a run folder of its own name."""

import pytest

from prevalent.tasks.r2r import R2R_PRESETS, RUNS
from prevalent.tasks.speaker import SPEAKER_PRESETS

PRESETS = {**R2R_PRESETS, **{f"speaker of {name}": one for name, one in SPEAKER_PRESETS.items()}}
FOLDERS = {config.run_dir for _, config in PRESETS.values()}


def test_no_two_presets_share_a_folder():
    assert len(FOLDERS) == len(PRESETS)


@pytest.mark.parametrize("name", R2R_PRESETS)
def test_what_a_preset_continues_is_made_by_another(name):
    text, config = R2R_PRESETS[name]
    assert text
    assert {config.start_from, config.speaker} - {None} <= FOLDERS
    assert config.run_dir.parent == RUNS
    if config.start_from is not None:
        before = next(c for _, c in R2R_PRESETS.values() if c.run_dir == config.start_from)
        for size in ("encoder", "hidden_size", "encoder_size", "angle_size", "num_texts"):
            assert getattr(before.model, size) == getattr(config.model, size)


def test_both_stages_of_the_rows_with_several_texts_read_three():
    for name in ("prevalent-multi", "prevalent-multi-critical"):
        assert R2R_PRESETS[name][1].model.num_texts == 3
    assert R2R_PRESETS["prevalent-multi-critical"][1].feedback == "self-critical"
