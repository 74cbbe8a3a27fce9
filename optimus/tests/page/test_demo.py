import pytest

from optimus.page.demo import DemoConfig, demo


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
