"""What the authors' code wrote is read whole: every tensor reported, none missing or unexpected."""

import pytest
import torch
from factories import tiny_model

from optimus.authors_checkpoint import read_authors_checkpoint
from optimus.convert import export_authors_checkpoint, load_authors_checkpoint
from optimus.data.shards import read_authors_json
from optimus.unpickle import load_untrusted


@pytest.mark.golden
def test_recorded_folders_load_with_a_report_of_every_tensor(golden_kind):
    folder = golden_kind("checkpoints")
    theirs = read_authors_checkpoint(folder)
    _, report = load_authors_checkpoint(folder)
    assert (report.missing, report.unexpected) == ((), ())
    assert {row.theirs for row in report.rows} == theirs.tensors.keys()
    assert report.text().endswith("0 missing, 0 unexpected")
    for name in theirs.tensors:
        assert name in report.text()


@pytest.mark.golden
def test_every_recorded_torch_file_is_read_without_running_it(golden_kind):
    files = sorted(golden_kind("checkpoints").rglob("*.bin"))
    assert files
    for path in files:
        assert load_untrusted(path) is not None


@pytest.mark.golden
def test_recorded_token_caches_are_read(golden_kind):
    caches = sorted(golden_kind("dataloader").glob("cached_lm_gpt_bert_*.json"))
    assert caches
    for cache in caches:
        assert len(read_authors_json(cache))


@pytest.mark.parametrize("layers", [1, 12])
def test_folders_of_any_depth_load_whole(layers, tmp_path):
    model = tiny_model(layers=layers)
    export_authors_checkpoint(model, tmp_path, step=31250)
    again, report = load_authors_checkpoint(tmp_path)
    assert (report.missing, report.unexpected) == ((), ())
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
