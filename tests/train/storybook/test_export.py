"""Exports of the bundled models: what they replace, and what they refuse before anything is measured."""

import argparse
from pathlib import Path

import pytest
import torch

from ip2p.errors import ConfigError
from ip2p.train.storybook.base import EXPORTED, checkpoints, export_all

CPU = torch.device("cpu")


def arguments(tmp_path: Path, *trained: str, only: str | None = None) -> argparse.Namespace:
    """Arguments of an export of models that have a checkpoint, which is empty."""
    state = tmp_path / "state"
    for model in trained:
        (checkpoints(state, model, "thin") / "step-00000002").mkdir(parents=True)
    return argparse.Namespace(state=state, out=tmp_path / "models", only=only, unet="thin", scenes=4, measure=2)


@pytest.mark.parametrize("model", EXPORTED)
def test_a_folder_that_is_no_export_is_left_as_it_is(model: str, tmp_path: Path) -> None:
    parsed = arguments(tmp_path, model)
    thesis = parsed.out / ("base" if model in ("diffusion", "decoder") else model) / "thesis.txt"
    thesis.parent.mkdir(parents=True)
    thesis.write_text("the work of years")
    with pytest.raises(ConfigError, match=f"{thesis.parent} is there and is no exported model"):
        export_all(parsed, CPU)
    assert thesis.read_text() == "the work of years"
