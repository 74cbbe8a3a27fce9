"""The presets of NDH hold the published settings."""

from prevalent.tasks.ndh import NDH_PRESETS


def test_every_row_of_the_table_has_a_preset():
    for row in ("prevalent", "seq2seq"):
        for name, path_type in (
            ("oracle", "planner_path"),
            ("navigator", "player_path"),
            ("mixed", "trusted_path"),
        ):
            assert NDH_PRESETS[f"{row}-{name}"][1].path_type == path_type


def test_the_published_sizes():
    mixed, seq2seq = NDH_PRESETS["prevalent-mixed"][1], NDH_PRESETS["seq2seq-mixed"][1]
    assert (mixed.batch_size, mixed.text_length, mixed.optimizer.kind) == (15, 300, "adamax")
    assert not mixed.model.update_language
    assert mixed.model.encoder_size == mixed.model.hidden_size == 1024
    assert (seq2seq.batch_size, seq2seq.model.hidden_size, seq2seq.max_actions) == (100, 512, 80)
    assert seq2seq.optimizer.weight_decay == mixed.optimizer.weight_decay == 5e-4


def test_runs_have_folders_of_their_own():
    folders = [run.run_dir for _, run in NDH_PRESETS.values()]
    assert len(set(folders)) == len(folders)
