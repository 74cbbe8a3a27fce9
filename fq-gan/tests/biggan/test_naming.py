import json
import string
from dataclasses import replace

import pytest

from fqgan.biggan.config import C10, PRESETS, authors_name, experiment_name
from fqgan.released.migrate import differences, read_flags, train_config


@pytest.mark.golden
@pytest.mark.cases("biggan/misc/misc.json")
def test_names_are_those_of_the_authors(case):
    scripts = json.loads(case.read_text())["launch_scripts"]
    assert scripts
    for script in scripts.values():
        flags = {**read_flags([]), **script["config"]}
        assert authors_name(train_config(flags, [])) == script["name"]


def test_runs_that_the_authors_name_confuses_differ_in_the_digest():
    other = replace(C10, step=replace(C10.step, generator_lr=1e-4))
    assert authors_name(other) == authors_name(C10)
    assert experiment_name(other) != experiment_name(C10)
    assert experiment_name(C10).startswith(authors_name(C10))


def test_length_and_device_of_a_run_do_not_change_its_name():
    longer = replace(C10, max_steps=1, device="cpu", log_every=7, data=replace(C10.data, workers=1))
    assert experiment_name(longer) == experiment_name(C10)


def test_a_hashed_name_is_a_digest_that_every_process_agrees_on():
    name = experiment_name(replace(C10, naming="hashed"))
    assert len(name) == 8
    assert set(name) <= set(string.hexdigits)


def test_no_two_presets_that_differ_have_the_same_name():
    for one, (_, first) in PRESETS.items():
        for other, (_, second) in PRESETS.items():
            if one < other and differences(first, second):
                assert experiment_name(first) != experiment_name(second), (one, other)
