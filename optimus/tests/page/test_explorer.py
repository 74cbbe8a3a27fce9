import gzip

import pytest
import torch
from factories import tiny_vae

from optimus.data.toy import read_factors, toy_sentences
from optimus.page.explorer import Explorer, find_directions, load_explorer
from optimus.runtime.run_folder import config_text
from optimus.tasks.language_model import DataOptions, TrainConfig

LINES = toy_sentences(40)
DOG = LINES[0]


@pytest.fixture(scope="module")
def explorer():
    groups = {"tense": [read_factors(line).tense for line in LINES]}
    return Explorer(tiny_vae(LINES), LINES, groups)


def test_a_sentence_of_the_sample_is_its_own_nearest(explorer):
    found = explorer.encode(DOG)
    assert found.nearest[0][0] == DOG
    assert found.nearest[0][1] < 1e-4
    assert [distance for _, distance in found.nearest] == sorted(d for _, d in found.nearest)
    assert found.latent.shape == (6,)
    given = explorer.encode(DOG, f"{LINES[3]}\n\n {DOG} \n")
    assert [text for text, _ in given.nearest] == [DOG, LINES[3]]


def test_an_interpolation_has_both_ends(explorer):
    rows = explorer.interpolate(DOG, LINES[1], 4)
    assert [share for share, _ in rows] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert rows[0][1] == explorer.encode(DOG).sentence


def test_an_analogy_of_one_sentence_with_itself_is_the_third(explorer):
    assert explorer.analogy(DOG, DOG, LINES[2]) == explorer.encode(LINES[2]).sentence
    assert explorer.analogy(DOG, LINES[1], DOG) == explorer.encode(LINES[1]).sentence


def test_directions_lead_from_the_mean_of_the_others_to_that_of_a_group():
    latents = torch.randn(60, 4)
    values = ["a"] * 20 + ["b"] * 20 + ["c"] * 20
    latents[:20, 1] += 5
    found = find_directions(latents, {"letter": values, "all": ["x"] * 60}, count=5)
    assert [each.name for each in found] == [
        "letter: a",
        "letter: b",
        "letter: c",
        "component 1",
        "component 2",
    ]
    torch.testing.assert_close(found[0].vector, latents[:20].mean(0) - latents[20:].mean(0))
    component = found[3].vector
    assert component.norm() ** 2 == pytest.approx(
        (latents @ (component / component.norm())).var(correction=0).item(), rel=1e-4
    )
    two = find_directions(latents, {"half": ["m"] * 30 + ["n"] * 30}, count=1)
    assert two[0].name == "half: n"


def test_sliders_at_zero_change_nothing_and_others_do(explorer):
    still = [0.0] * len(explorer.directions)
    assert explorer.move(DOG, still) == explorer.encode(DOG).sentence
    assert explorer.move_by_examples(DOG, DOG, LINES[1], 1.0) == explorer.encode(LINES[1]).sentence


def test_a_radius_of_zero_gives_one_sentence_and_a_seed_fixes_the_rest(explorer):
    assert explorer.sample(DOG, 0.0, 5, 0) == [(explorer.encode(DOG).sentence, 5)]
    drawn = explorer.sample(DOG, 2.0, 9, seed=3)
    assert sum(times for _, times in drawn) == 9
    assert drawn == explorer.sample(DOG, 2.0, 9, seed=3)


@pytest.mark.parametrize("projection", ["pca", "tsne"])
def test_the_map_shows_the_sample_and_the_users_sentences(explorer, projection):
    page = explorer.draw_map("tense", projection, "my own sentence <b>")
    assert all(line in page for line in LINES)
    assert "my own sentence \\u003cb>" in page
    assert '"yours"' in page
    assert '"yours"' not in explorer.draw_map("nothing")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda e: e.encode("  "), "the sentence is empty"),
        (lambda e: e.encode("x" * 1001), "has 1001 characters"),
        (lambda e: e.encode(DOG, "x\n" * 201), "are 201, at most 200"),
        (lambda e: e.interpolate("", DOG, 3), "sentence From is empty"),
        (lambda e: e.analogy(DOG, None, DOG), "sentence B is empty"),
        (lambda e: e.move_by_examples(DOG, "", DOG, 1), "lack it are missing"),
        (lambda e: Explorer(e.vae, LINES[:4]), "at least 5"),
    ],
)
def test_what_a_user_can_mend_is_a_sentence(explorer, call, message):
    with pytest.raises(ValueError, match=message):
        call(explorer)


def test_any_text_is_encoded(explorer):
    for text in ("你好 \u2028 🙂", "<PAD> <EOS>", "word " * 190, "\x00\x07"):
        assert isinstance(explorer.encode(text).sentence, str)


def test_a_language_model_has_no_latents_to_explore():
    plain = tiny_vae(LINES)
    plain.model.encoder = None
    with pytest.raises(ValueError, match="plain language model"):
        Explorer(plain, LINES)


@pytest.fixture
def run(tmp_path, explorer):
    folder = tmp_path / "run"
    explorer.vae.save_pretrained(folder / "model")
    data = DataOptions(tmp_path / "nowhere")
    (folder / "config.json").write_text(config_text("language-model", TrainConfig(data=data)))
    return folder


def test_a_run_is_explored_with_its_held_out_sentences(run):
    corpus = run / "corpus"
    corpus.mkdir()
    for split in ("train", "test"):
        (corpus / f"{split}.txt").write_text("\n".join(LINES[:9]) + "\n")
    made = load_explorer(run)
    assert (made.sentences, made.source) == (LINES[:9], str(corpus / "test.txt"))
    assert set(made.groups) >= {"tense", "number"}
    assert load_explorer(run, count=4 + 1).sentences == LINES[:5]
    packed = corpus / "test.txt.gz"
    packed.write_bytes(gzip.compress((corpus / "test.txt").read_bytes()))
    (corpus / "test.txt").unlink()
    made = load_explorer(run, count=5)
    assert (made.sentences, made.source) == (LINES[:5], str(packed))


def test_labels_of_a_text_become_an_attribute(run, tmp_path):
    text = tmp_path / "text.tsv"
    text.write_text("".join(f"{i % 2}\t{line} really\n" for i, line in enumerate(LINES)))
    made = load_explorer(run, text)
    assert made.groups == {"label": [str(i % 2) for i in range(len(LINES))]}
    assert made.directions[0].name == "label: 1"
    text.write_text("a plain line of words\n" + "\n".join(LINES))
    assert load_explorer(run, text).groups == {}


def test_a_model_folder_alone_is_explored_with_its_own_sentences(run):
    made = load_explorer(run / "model", count=30)
    assert made.source == "made by the model from its prior"


def test_what_is_missing_is_named(run, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"run `optimus demo --run-dir .*none` first"):
        load_explorer(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"--text .* does not exist"):
        load_explorer(run, tmp_path / "none.txt")
    (tmp_path / "bad.txt").write_bytes(b"\xff\x00")
    with pytest.raises(ValueError, match="UTF-8"):
        load_explorer(run, tmp_path / "bad.txt")
