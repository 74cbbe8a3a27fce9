import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from prevalent.config import TINY_MODEL
from prevalent.data.tokenizers import build_wordpiece_vocabulary
from prevalent.data.triplets import write_triplets
from prevalent.runtime.distributed import World
from prevalent.tasks.pretraining import PretrainConfig, build_corpus
from tests.factories import make_scan, write_connectivity

ALONE = World(0, 1, torch.device("cpu"))


@pytest.fixture
def config(tmp_path):
    """A data folder with one square house and two splits."""
    write_connectivity(tmp_path / "connectivity", "house", make_scan())
    for split, path in {"train": ["a", "b", "c"], "val_seen": ["b", "a"]}.items():
        item = {
            "path_id": 1,
            "scan": "house",
            "path": path,
            "heading": 0.0,
            "instructions": ["go left .", "go go left ."],
        }
        (tmp_path / f"R2R_{split}.json").write_text(json.dumps([item]))
    words = build_wordpiece_vocabulary(["go", "left", "."])
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n")
    return PretrainConfig(
        data_dir=tmp_path,
        train=("r2r:train",),
        held_out=("r2r:val_seen",),
        features=None,
        standin_dim=6,
        angle_size=8,
        vocabulary=Path("vocab.txt"),
        model=TINY_MODEL,
    )


def test_a_corpus_knows_its_sizes_and_frequencies(config, tmp_path):
    corpus = build_corpus(config, tmp_path, ALONE)
    assert len(corpus.train) == 6
    assert list(corpus.held_out) == ["val_seen"]
    fitted = corpus.fit(config.model)
    assert (fitted.vocab_size, fitted.image_dim) == (8, 14)
    for prior in (corpus.word_prior, corpus.action_prior):
        assert prior.exp().sum().item() == pytest.approx(1)
    assert corpus.word_prior.argmax().item() == 5  # "go": five special words stand before it


def test_collected_files_and_splits_give_the_same_table(config, tmp_path):
    corpus = build_corpus(config, tmp_path, ALONE)
    write_triplets(tmp_path / "shortest.json", corpus.train)
    again = build_corpus(replace(config, train=("triplets:shortest.json",)), tmp_path, ALONE)
    assert list(again.train.records()) == list(corpus.train.records())


def test_without_images_no_features_are_opened(config, tmp_path):
    text_only = replace(config, use_images=False, features=Path("none.tsv"))
    corpus = build_corpus(text_only, tmp_path, ALONE)
    assert corpus.features is None
    with pytest.raises(FileNotFoundError, match=r"none\.tsv"):
        build_corpus(replace(text_only, use_images=True), tmp_path, ALONE)


def test_sources_of_two_kinds_are_not_mixed(config, tmp_path):
    mixed = replace(config, train=("r2r:train", "triplets:x.json"))
    with pytest.raises(ValueError, match="mixes triplet files with R2R splits"):
        build_corpus(mixed, tmp_path, ALONE)


def test_more_actions_than_outputs_are_named(config, tmp_path):
    few = replace(config, model=replace(TINY_MODEL, num_actions=1))
    with pytest.raises(ValueError, match=r"hold action \d, but --model.num-actions is 1"):
        build_corpus(few, tmp_path, ALONE)


def test_the_action_may_be_the_next_view(config, tmp_path):
    model = replace(TINY_MODEL, num_actions=37)
    corpus = build_corpus(
        replace(config, action_target="relative-view", model=model), tmp_path, ALONE
    )
    for ranked in (build_corpus(config, tmp_path, ALONE), corpus):
        assert ((ranked.train.action == 0) == (ranked.train.target_view < 0)).all()
    assert len(corpus.action_prior) == 37
    level = corpus.train.action[corpus.train.action > 0] - 1
    assert (level // 12 == corpus.train.target_view[corpus.train.action > 0] // 12).all()


def test_views_as_actions_need_one_output_each(config):
    with pytest.raises(ValueError, match=r"set --model.num-actions to 37 \(it is 36\)"):
        replace(config, action_target="relative-view")
