"""What is said about tensors that fit, and about those that do not."""

from __future__ import annotations

import pytest
import torch

from fqgan.released.loading import load_with_report, require_complete, write_report


@pytest.fixture
def report():
    network = torch.nn.Linear(2, 3)
    state = {"weight": torch.zeros(3, 3), "extra": torch.zeros(1)}
    return load_with_report(network, state, "G")


def test_the_report_names_what_does_not_fit(report):
    assert not report.complete
    assert report.missing == ("bias",)
    assert report.unexpected == ("extra",)
    assert report.mismatched == ("weight: [3, 3] in the file, [3, 2] in the network",)
    assert "1 missing, 1 unexpected, 1 of another shape" in report.text()


def test_the_first_tensor_that_does_not_fit_is_named(report, tmp_path):
    with pytest.raises(ValueError, match=r"of another shape; the first is weight: \[3, 3\]"):
        require_complete([report], tmp_path)
    network = torch.nn.Linear(2, 3)
    require_complete([load_with_report(network, network.state_dict(), "G")], tmp_path)


def test_the_report_has_one_line_per_tensor(report, tmp_path):
    write_report(tmp_path, [report])
    lines = (tmp_path / "report.txt").read_text().splitlines()
    assert len(lines) == 1 + 1 + 1 + 1  # summary, missing, unexpected, mismatched
