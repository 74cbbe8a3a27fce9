import gzip
import json

import pytest
import torch

from prevalent.data.tokenizers import WordCodes
from prevalent.data.triplets import mask_words

FRACTION = 0.01  # of 4,000 draws of a sentence


@pytest.fixture
def recorded(golden):
    path = golden / "pretrain_data/pretrain_data.json.gz"
    if not path.exists():
        pytest.skip("no pretrain_data case")
    return json.loads(gzip.decompress(path.read_bytes()))


@pytest.mark.golden
def test_recorded_masks_are_reproduced(recorded):
    encodings = {one["instr_id"]: one["instr_encoding"] for one in recorded["collected_bs1"]}
    for sample in recorded["navdataset_samples"]:
        torch.manual_seed(100 + sample["index"])
        ours = mask_words(torch.tensor(encodings[sample["instr_id"]]))
        assert ours.tokens.tolist() == sample["masked_text_seq"]
        assert ours.labels.tolist() == sample["masked_text_label"]


@pytest.mark.golden
def test_fractions_agree_with_the_recorded_statistics(recorded):
    case = recorded["mask_statistics"]
    ids = torch.randint(1000, 30000, (case["n_tokens"],))
    ids[: case["n_special"]] = 0
    ours = mask_words(ids.expand(case["draws"], -1), generator=torch.Generator().manual_seed(0))
    selected = ours.labels != -1
    count = selected.sum().item()
    assert count / case["draws"] == pytest.approx(case["mean_selected_per_draw"], rel=0.03)
    hidden = (ours.tokens == 103)[selected].float().mean().item()
    same = (ours.tokens == ours.labels)[selected].float().mean().item()
    assert hidden == pytest.approx(case["frac_MASK"], abs=FRACTION)
    assert same == pytest.approx(case["frac_unchanged(incl. random hit)"], abs=FRACTION)


def test_special_words_are_never_selected_and_others_keep_their_place():
    codes = WordCodes(20, 4, (0, 1, 2, 3, 4))
    ids = torch.randint(20, (500, 8), generator=torch.Generator().manual_seed(1))
    ours = mask_words(ids, codes, 0.5, torch.Generator().manual_seed(2))
    selected = ours.labels != -1
    assert not selected[ids < 5].any()
    torch.testing.assert_close(ours.tokens[~selected], ids[~selected])
    torch.testing.assert_close(ours.labels[selected], ids[selected])
    assert selected[ids >= 5].float().mean().item() == pytest.approx(0.5, abs=0.03)
