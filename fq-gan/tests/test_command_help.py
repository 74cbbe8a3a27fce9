"""The help of a preset shows a readable number of options, and every one of them somewhere."""

import re
from dataclasses import fields, is_dataclass

import pytest

from fqgan.config import PRESETS, evaluate, sample, train_main
from fqgan.runtime.options import READABLE

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
