"""The sheet of scales: every cell is the edit at its scales, and scales of the bundled editor do what they say."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ip2p import Editor, cli
from ip2p.editing.grid import scale_grid
from ip2p.errors import ConfigError
from ip2p.pictures.contact_sheet import GAP, LABEL_WIDTH
from ip2p.pictures.read import open_image
from ip2p.pictures.tensors import to_tensor
from ip2p.pictures.write import read_parameters
from ip2p.storybook.judge import Judge
from ip2p.storybook.scene import ATTRIBUTES

COTTAGE = Path(__file__).parents[3] / "examples/cottage.png"


def cell(sheet: Image.Image, row: int, column: int, rows: int, side: int) -> Image.Image:
    """A picture of a sheet, counted from its lower right corner, where no labels are."""
    left = LABEL_WIDTH + 2 * GAP + column * (side + GAP)
    lower = sheet.height - (rows - row - 1) * (side + GAP) - GAP
    return sheet.crop((left, lower - side, left + side, lower))


def test_every_cell_is_the_edit_at_its_scales(editor_folder: Path) -> None:
    editor = Editor.from_pretrained(str(editor_folder), device="cpu")
    image = open_image(COTTAGE)
    sheet = scale_grid(
        editor, image, "make it winter", text_scales=[0.0, 9.0], image_scales=[1.0, 3.0], seed=4, steps=2
    ).sheet
    for row, image_scale in enumerate((1.0, 3.0)):
        for column, text_scale in enumerate((0.0, 9.0)):
            (alone,) = editor.edit(
                image, "make it winter", text_scale=text_scale, image_scale=image_scale, seeds=4, steps=2,
                keep_size=False,
            )  # fmt: skip
            found = cell(sheet, row, column + 1, rows=2, side=32)
            assert np.array_equal(np.asarray(found), np.asarray(alone.image))


@pytest.mark.slow
def test_scales_of_the_bundled_editor_do_what_they_are_called() -> None:
    """More text scale makes it winter, more image scale keeps more of the picture."""
    image = open_image(COTTAGE)
    sheet = scale_grid(
        Editor.from_pretrained(device="cpu"), image, "make it winter", text_scales=[0.0, 3.0], image_scales=[1.0, 4.0],
        seed=4, steps=10,
    ).sheet  # fmt: skip
    cells = to_tensor([cell(sheet, row, column, rows=2, side=256) for row in (0, 1) for column in (1, 2)])
    season = Judge.from_pretrained("storybook-judge").read(cells).attributes["season"]
    assert (season == ATTRIBUTES["season"].index("winter")).tolist() == [False, True, False, True]
    away = (cells - to_tensor([image])).square().flatten(1).mean(1)
    assert torch.all(away[[0, 2]] < away[[1, 3]])  # with no text, both are the picture itself
    assert torch.all(away[[2, 3]] < away[[0, 1]])


def test_grids_of_nothing_or_without_end_are_refused(editor_folder: Path) -> None:
    editor, image = Editor.from_pretrained(str(editor_folder), device="cpu"), open_image(COTTAGE)
    with pytest.raises(ConfigError, match="grid of 0 pictures"):
        scale_grid(editor, image, "a", text_scales=[], seed=1)
    with pytest.raises(ConfigError, match="grid of 400 pictures"):
        scale_grid(editor, image, "a", text_scales=[1.0] * 20, image_scales=[1.0] * 20, seed=1)
    with pytest.raises(ConfigError, match="image_scale=inf"):
        scale_grid(editor, image, "a", image_scales=[1.0, float("inf")], seed=1)


def test_the_command_writes_a_sheet(
    editor_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["grid", str(COTTAGE), "make it winter", "--model", str(editor_folder), "--steps", "1", "--seed", "2"]
    assert cli.run([*words, "--text-scales", "1,2.5", "--image-scales", "1"]) == 0
    assert capsys.readouterr().out == "cottage-make-it-winter-grid-2.png (seed 2)\n"
    assert read_parameters("cottage-make-it-winter-grid-2.png")["text_scales"] == [1, 2.5]
    for scales in ("1,x", "nan", "", "1,,2"):
        assert cli.run([*words, "--text-scales", scales]) == 2
        assert "--text-scales" in capsys.readouterr().err
    assert len(list(tmp_path.iterdir())) == 1
