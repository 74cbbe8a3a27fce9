"""Presets of HANNA are rows of its tables."""

from prevalent.tasks.hanna import HANNA_PRESETS


def test_every_preset_has_a_title_and_a_folder_of_its_own():
    folders = [config.run_dir for _, config in HANNA_PRESETS.values()]
    assert len(set(folders)) == len(folders)
    assert all(title for title, _ in HANNA_PRESETS.values())


def test_the_base_agent_is_trained_as_published():
    anna = HANNA_PRESETS["anna"][1]
    assert (anna.batch_size, anna.max_steps, anna.max_length) == (32, 30_000, 50)
    assert (anna.optimizer.lr, anna.optimizer.weight_decay) == (1e-4, 5e-4)
    assert (anna.model.hidden_size, anna.model.num_heads, anna.model.reset) == (256, 8, "batch")
    assert (anna.search.train_length, anna.search.eval_length) == (20, 50)
    assert HANNA_PRESETS["prevalent"][1].model.encoder == "dic"
