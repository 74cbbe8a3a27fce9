"""The scripts behind the claims compare what they say."""

import sys
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "evidence"))

import quantization_claim
import translation_claim

from fqgan.ugatit.networks import build_networks


def test_generated_images_of_all_classes_are_compared_with_images_of_all_classes(tmp_path):
    with zipfile.ZipFile(tmp_path / "sorted.zip", "w") as archive:
        for label in range(4):
            for number in range(25):
                with archive.open(f"{label}/{number:02d}.png", "w") as file:
                    Image.new("L", (16, 16), 60 * label).save(file, "PNG")
    settings = {"resolution": 16, "images": 60}
    pixels, labels = quantization_claim.read_images(str(tmp_path / "sorted.zip"), settings)
    assert labels.tolist() == sorted(labels.tolist())
    levels = quantization_claim.reference(pixels, 20).mean(dim=(1, 2, 3)).unique()
    assert len(levels) == 4


def test_cells_of_the_translation_begin_alike_where_the_script_says_so():
    states = []
    for config in translation_claim._cells().values():
        torch.manual_seed(1)
        states.append(build_networks(config.networks()).state_dict())
    baseline, first, *others = states
    for name, wanted in first.items():
        assert all(torch.equal(state[name], wanted) for state in others), name
        if name.startswith(("a_to_b.", "b_to_a.")):
            assert torch.equal(baseline[name], wanted), name


def test_scores_of_other_features_are_not_mixed(tmp_path, monkeypatch, capsys):
    (tmp_path / "0-0.json").write_text('{"steps": 4000, "features": "random"}')
    monkeypatch.setattr(sys, "argv", ["translation_claim.py", "--out", str(tmp_path)])
    with pytest.raises(SystemExit):
        translation_claim.main()
    assert "0-0.json has --features random; give another --out" in capsys.readouterr().err
