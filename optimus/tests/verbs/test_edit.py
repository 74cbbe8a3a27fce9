"""A direction is learned, measured on sentences apart, saved, and used to move others."""

import json

import pytest
import torch
from factories import tiny_vae
from sklearn.linear_model import LogisticRegression
from transformers import BertConfig, BertModel

from optimus.data.toy import read_factors, toy_sentences
from optimus.decoding import Sampling
from optimus.directions import Direction, learn_direction
from optimus.models.classifier import SentenceClassifier
from optimus.tasks.judge import Judge
from optimus.verbs.edit import LearnConfig, MoveConfig, Parts, learn, move, split

LINES = toy_sentences(200)
GROUPS = {
    name: [line for line in LINES if (read_factors(line).tense == "past") == (name == "past")]
    for name in ("past", "other")
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny_vae(LINES).save_pretrained(folder)
    return folder


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / f"{name}.txt" for name in GROUPS]
    for path, lines in zip(paths, GROUPS.values(), strict=True):
        path.write_text("\n".join(lines))
    return paths


def test_the_difference_of_means_is_one_unit_long():
    having, lacking = torch.randn(30, 4) + 2, torch.randn(50, 4)
    direction = learn_direction(having, lacking)
    torch.testing.assert_close(direction.vector, having.mean(0) - lacking.mean(0))
    positions = [direction.position(rows).mean() for rows in (having, lacking)]
    assert positions[0] - positions[1] == pytest.approx(1, abs=1e-5)
    assert direction.threshold == pytest.approx(float(sum(positions)) / 2, abs=1e-5)
    assert direction.has(having).float().mean() > 0.9


def test_the_boundary_leaves_out_what_is_not_the_attribute():
    """The first number is the attribute; the second goes with it in the sample and is noise."""
    noise = torch.Generator().manual_seed(0)
    labels = torch.arange(400) % 2
    latents = torch.randn(400, 3, generator=noise)
    latents[:, 0] += 6 * labels
    latents[:, 1] += 0.5 * latents[:, 0]
    groups = latents[labels == 1], latents[labels == 0]
    boundary = learn_direction(*groups, "boundary").vector
    difference = learn_direction(*groups).vector
    share = [float(vector[1].abs() / vector.norm()) for vector in (boundary, difference)]
    assert share[0] < share[1]
    spread = latents.double().std(dim=0)
    plane = LogisticRegression(max_iter=2000).fit(latents.double() / spread, labels)
    normal = torch.from_numpy(plane.coef_[0]) / spread
    cosine = torch.nn.functional.cosine_similarity(boundary.double(), normal, dim=0)
    assert float(cosine) == pytest.approx(1, abs=1e-5)


def test_a_direction_is_read_back(tmp_path):
    direction = Direction(torch.randn(4), "past", 0.3, {"method": "difference"})
    direction.save(tmp_path / "a.safetensors")
    again = Direction.load(tmp_path / "a.safetensors")
    assert torch.equal(again.vector, direction.vector)
    assert (again.name, again.threshold, again.about) == ("past", 0.3, {"method": "difference"})
    (tmp_path / "b.safetensors").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"b\.safetensors is no direction"):
        Direction.load(tmp_path / "b.safetensors")
    with pytest.raises(FileNotFoundError, match="optimus edit learn"):
        Direction.load(tmp_path / "c.safetensors")
    with pytest.raises(ValueError, match="the same mean"):
        learn_direction(torch.ones(2, 3), torch.ones(4, 3))


def test_learning_measures_on_sentences_apart(model, files, tmp_path, capsys):
    output = tmp_path / "past.safetensors"
    config = LearnConfig(model, having=files[0], lacking=files[1], output=output, max_test=20)
    found = learn(config)
    printed = capsys.readouterr().out
    assert "past: " in printed
    assert "| strength | judged past | BLEU with the source |" in printed
    about = Direction.load(output).about
    assert about["judge_accuracy"] > 0.7, "past tense is in the words"
    assert [row["strength"] for row in about["strengths"]] == list(config.strengths)
    assert sum(about["sentences"]) < len(LINES)
    parts = split(files[0], GROUPS["past"], config)
    assert isinstance(parts, Parts)
    assert sorted([*parts.direction, *parts.judge, *parts.test]) == sorted(set(GROUPS["past"]))
    vae = tiny_vae(LINES)
    others = split(files[1], GROUPS["other"], config)
    expected = vae.encode(parts.direction).mean(0) - vae.encode(others.direction).mean(0)
    torch.testing.assert_close(found.vector, expected)


def test_moving_writes_a_line_for_each_strength_and_sentence(model, files, tmp_path, ends):
    direction = tmp_path / "past.safetensors"
    learned = ("--having", files[0], "--lacking", files[1], "--max-test", 5)
    ends("edit", "learn", "--run-dir", model, *learned, "--output", direction)
    texts = ("--texts", LINES[0], LINES[1], "--strengths", -1, 0)
    printed = ends("edit", "move", "--run-dir", model, "--direction", direction, *texts)
    rows = [line.split("\t") for line in printed.splitlines()]
    assert [row[0] for row in rows] == ["-1", "-1", "0", "0"]
    assert [row[1] for row in rows] == LINES[:2] * 2
    vae = tiny_vae(LINES)
    assert [row[2] for row in rows[2:]] == [" ".join(t.split()) for t in vae.reconstruct(LINES[:2])]
    table = tmp_path / "texts.jsonl"
    table.write_text("".join(json.dumps({"n": 1, "text": line}) + "\n" for line in LINES[:3]))
    config = MoveConfig(
        model, column="text", direction=direction, file=table, output=tmp_path / "moved.tsv"
    )
    lines = move(config)
    assert (tmp_path / "moved.tsv").read_text().splitlines() == lines
    assert len(lines) == 3 * len(config.strengths)


def test_a_trained_classifier_may_be_the_judge(model, files, tmp_path, fails):
    vae = tiny_vae(LINES)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    bert = BertModel(BertConfig(vocab_size=vae.tokenizers.encoder_vocab_size, **sizes))
    judge = Judge(SentenceClassifier(bert, 2), vae.tokenizers, ("present", "past"))
    judge.save(tmp_path / "judge")
    words = {"judge": tmp_path / "judge", "judge_label": "past", "max_test": 9, "seed": 3}
    words |= {"having": files[0], "lacking": files[1], "output": tmp_path / "a.safetensors"}
    drawn = Sampling("sample", max_new_tokens=9)
    config = LearnConfig(model, decoding=drawn, strengths=(0.0, 1.0), **words)
    found = learn(config)
    tested = split(files[1], GROUPS["other"], config).test
    right = [
        float((judge.predict(split(path, lines, config).test) == number).mean())
        for path, lines, number in zip(files, GROUPS.values(), (1, 0), strict=True)
    ]
    assert found.about["judge_accuracy"] == pytest.approx(sum(right) / 2)
    torch.manual_seed(3)
    for row in found.about["strengths"]:
        moved = vae.move(tested[:9], found, row["strength"], drawn)
        assert row["judged"] == pytest.approx(float((judge.predict(moved) == 1).mean()))
    assert learn(config).about == found.about, "sampling has a seed"
    groups = ("--model", model, "--having", files[0], "--lacking", files[1])
    said = fails("edit", "learn", *groups, "--judge", tmp_path / "judge", "--judge-label", "none")
    assert "--judge-label none: the classes of " in said
    assert said.strip().endswith("are present, past")


def test_what_a_user_can_mend_is_named(model, files, tmp_path, fails):
    few = tmp_path / "few.txt"
    few.write_text("one\none\ntwo\n")
    groups = ("--model", model, "--having", few, "--lacking", files[1])
    assert "few.txt has 2 different sentences: too few" in fails("edit", "learn", *groups)
    assert "--strengths must be finite" in fails("edit", "learn", *groups, "--strengths", "inf")
    assert "--judge and --judge-label belong together" in fails("edit", "learn", "--judge", "x")
    assert "give sentences with --texts" in fails("edit", "move", "--direction", "x")
    assert "unknown kind 'fly'" in fails("edit", "fly")
    with pytest.raises(ValueError, match="leave something for the direction"):
        LearnConfig(judge_share=0.6, test_share=0.4)
