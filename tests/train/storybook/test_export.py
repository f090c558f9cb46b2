"""Exports of the bundled models, and the programs that train them: what they refuse before anything is done."""

import argparse
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ip2p.errors import ConfigError, ModelError
from ip2p.models.bundled import BUNDLED
from ip2p.train.storybook.base import EXPORTED, checkpoints, export_all, main, measure_all
from ip2p.train.storybook.bundle import READ_AS_CAPTIONED, RECONSTRUCTIONS, replace_figures
from ip2p.train.storybook.reproduce import main as reproduce

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


def test_nothing_to_export_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nothing to export in .*no checkpoint of judge or clip-a or "):
        export_all(arguments(tmp_path), CPU)
    with pytest.raises(ModelError, match="no checkpoint of judge. Train it first: .*base.py judge"):
        export_all(arguments(tmp_path, "clip-a", only="judge"), CPU)
    assert not (tmp_path / "models").exists()


def test_measured_figures_are_written_into_card_and_record_if_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "base"
    folder.mkdir()
    for file in ("README.md", "training.json"):
        shutil.copy(BUNDLED / "base" / file, folder)
    before = (folder / "README.md").read_text()
    measured = {READ_AS_CAPTIONED: {"all": 12.345, "place": 67.0}, RECONSTRUCTIONS: {"PSNR (dB)": 8.9}}
    monkeypatch.setattr("ip2p.train.storybook.base.measure_models", lambda *_, **__: [("base", measured)])
    measure_all(argparse.Namespace(out=tmp_path, measure=2, write=False), CPU)
    assert f"base, {READ_AS_CAPTIONED}: all 12.3, place 67.0\n" in capsys.readouterr().out
    assert (folder / "README.md").read_text() == before
    measure_all(argparse.Namespace(out=tmp_path, measure=2, write=True), CPU)
    card, record = (folder / "README.md").read_text(), json.loads((folder / "training.json").read_text())
    assert f"{READ_AS_CAPTIONED}:\n\n| all | place |\n| --- | --- |\n| 12.3 | 67.0 |\n\n{RECONSTRUCTIONS}:" in card
    assert "| PSNR (dB) |\n| --- |\n| 8.9 |\n\n## Limits" in card
    assert card.partition("## Measured")[0] == before.partition("## Measured")[0]
    assert record["samples"] == 103_488 and record["figures"][READ_AS_CAPTIONED] == {"all": 12.35, "place": 67.0}


@pytest.mark.parametrize("model", ["base", "clip-a", "clip-b", "editor", "judge"])
def test_bundled_cards_have_the_figures_of_their_records(model: str) -> None:
    files = {name: (BUNDLED / model / name).read_text() for name in ("README.md", "training.json")}
    assert replace_figures(BUNDLED / model, json.loads(files["training.json"])["figures"]) == files


@pytest.mark.parametrize(
    ("program", "words", "told"),
    [
        (main, ["judge", "--device", "foo"], "device 'foo' is not available"),
        (main, ["judge", "--minutes", "-1"], "--minutes -1 is not above 0"),
        (main, ["judge", "--minutes", "0"], "--minutes 0 is not above 0"),
        (main, ["judge", "--minutes", "nan"], "--minutes nan is not above 0"),
        (reproduce, ["--minutes-scale", "0"], "--minutes-scale 0 is not above 0"),
    ],
)
def test_wrong_words_are_told_in_one_line_before_anything_is_drawn(
    program: Callable[[], int],
    words: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["program", *words, "--state", str(tmp_path / "state")])
    assert program() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert not (tmp_path / "state").exists()
