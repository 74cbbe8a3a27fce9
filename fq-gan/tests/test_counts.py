"""The networks of the papers' presets have the recorded sizes."""

import importlib.util
from pathlib import Path

from fqgan.runtime.published import find_folder, read_evidence

ROOT = Path(__file__).parents[1]


def test_networks_have_the_recorded_sizes():
    spec = importlib.util.spec_from_file_location("networks", ROOT / "evidence" / "networks.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    recorded = {
        (one.row.rpartition("(")[2].rstrip(")"), one.data): one.value
        for record in read_evidence(find_folder("evidence"))
        for one in record.results
        if one.metric == "parameters"
    }
    names = {"a_to_b": "generator", "judge_a": "discriminator"}
    for preset in script.PAPERS:
        for name, network in script.networks(preset).items():
            part = names.get(name, name)
            if (preset, part) in recorded:
                size = sum(parameter.numel() for parameter in network.parameters())
                assert size == recorded.pop((preset, part)), (preset, part)
    assert not recorded
