import pytest
import torch
from factories import tiny_model
from torch import nn
from transformers.utils import logging

from optimus.models.storage import load_added, read_settings, save_with_vae
from optimus.models.vae import OptimusModel


class Added(nn.Module):
    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.vae, self.layer = tiny_model(), nn.Linear(width, width)


def test_added_layers_and_settings_return(tmp_path):
    module = Added()
    save_with_vae(module, tmp_path, "task", number=3)
    again = Added()
    load_added(again, tmp_path, "task")
    assert torch.equal(again.layer.weight, module.layer.weight)
    assert read_settings(tmp_path, "task") == {"number": 3}


def test_tensors_that_do_not_fit_are_named(tmp_path):
    module = Added()
    save_with_vae(module, tmp_path, "task")
    module.other = nn.Linear(1, 1)
    with pytest.raises(ValueError, match=r"missing \['other\.bias'"):
        load_added(module, tmp_path, "task")
    with pytest.raises(FileNotFoundError, match="holds no other model"):
        read_settings(tmp_path, "other")


def test_saving_and_loading_draw_no_bars_and_leave_them_to_others(tmp_path, capfd):
    tiny_model().save_pretrained(tmp_path)
    OptimusModel.from_pretrained(tmp_path)
    assert capfd.readouterr().err == ""
    assert logging.is_progress_bar_enabled()
