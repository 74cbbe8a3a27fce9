import json

import pytest
from factories import tiny_vae

from optimus.page.demo import DemoConfig, demo

LINES = ["Tom is here .", "The dog barks .", "A cat sleeps .", "I know .", "She is happy .", "No !"]


@pytest.mark.parametrize(("option", "name"), [("max_steps", "--max-steps")])
def test_a_negative_number_of_steps_is_named(option, name):
    with pytest.raises(ValueError, match=name):
        DemoConfig(**{option: -1})


def test_the_demo_in_its_smallest_form_trains_scores_and_plays(tmp_path, capfd):
    shares = demo(DemoConfig(run_dir=tmp_path / "demo", max_steps=2, analogies=6))
    output = capfd.readouterr().out
    assert "$ optimus train demo" in output
    assert "| perplexity |" in output
    assert "Interpolation" in output
    assert set(shares) == {"exact", "factor", "grammatical"}


@pytest.fixture
def saved(tmp_path):
    tiny_vae(LINES * 3).save_pretrained(tmp_path / "vae")
    (tmp_path / "text.txt").write_text("\n".join(LINES))
    return tmp_path


def test_a_saved_model_is_shown_with_examples(saved, ends):
    printed = ends("demo", "--real", saved / "vae", "--text", saved / "text.txt")
    for part in ("% of the words kept", "Moved by one unit", "past ", "Interpolation", "Analogies"):
        assert part in printed
    assert "Nearest to: " in printed


def test_folders_of_public_models_are_told_how_to_become_one(tmp_path, fails):
    for name, kind in (("a", "LlamaForCausalLM"), ("b", "BertModel")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"architectures": [kind]}))
    message = fails("demo", "--real", tmp_path)
    assert f"--model.init {tmp_path / 'b'} {tmp_path / 'a'} " in message
    assert "holds no model" in fails("demo", "--real", tmp_path / "none")
