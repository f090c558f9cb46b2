"""Edits in a row: each on the last one's result, at full size, and what no turn changed is as it was, to the bit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ip2p import Editor, cli
from ip2p.editing.sequence import edit_in_sequence
from ip2p.errors import InstructionError
from ip2p.pictures.read import open_image
from ip2p.pictures.write import read_parameters

COTTAGE = Path(__file__).parents[3] / "examples/cottage.png"


def noise(seed: int, size: tuple[int, int] = (32, 32)) -> Image.Image:
    width, height = size
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def pixels(image: Image.Image) -> Any:
    return np.asarray(image).astype(int)


@pytest.fixture(scope="module")
def editor(editor_folder: Path) -> Editor:
    return Editor.from_pretrained(str(editor_folder), device="cpu")


def test_a_turn_is_an_edit_of_the_last_one(editor: Editor) -> None:
    image, edits = noise(1, (61, 45)), []
    settings: dict[str, Any] = {"steps": 2, "batch": 2}
    (made,) = edit_in_sequence(
        editor, image, ["make it winter", "make it night"], seeds=5, keep_unchanged=False,
        on_edit=lambda number, pictures: edits.append((number, pictures[0])), **settings,
    )  # fmt: skip
    (first,) = editor.edit(image, "make it winter", seeds=5, **settings)
    assert [number for number, _ in edits] == [1, 2] and made.image.size == (61, 45)
    assert np.array_equal(pixels(edits[0][1]), pixels(first.image))
    (again,) = edit_in_sequence(editor, image, ["make it winter", "make it night"], seeds=5, **settings)
    assert again.parameters["keep_unchanged"] and not made.parameters["keep_unchanged"]
    assert (made.seed, made.parameters["seed"]) == (5, 5)
    assert made.parameters["turns"] == ["make it winter", "make it night"]


def test_samples_images_and_masks_stay_apart(editor: Editor) -> None:
    images, mask = [noise(1), noise(2, (40, 24))], Image.new("L", (40, 24))
    mask.paste(255, (0, 0, 9, 24))
    settings: dict[str, Any] = {"steps": 1, "masks": [None, mask]}
    made = edit_in_sequence(editor, images, ["a", "b"], seeds=3, samples=2, **settings)
    assert [(each.seed, each.image.size) for each in made] == [(s, i.size) for i in images for s in (3, 4)]
    assert all(np.array_equal(pixels(each.image)[:, 9:], pixels(images[1])[:, 9:]) for each in made[2:])
    (alone,) = edit_in_sequence(editor, images[0], ["a", "b"], seeds=4, steps=1)
    assert np.abs(pixels(alone.image) - pixels(made[1].image)).max() <= 1


def test_an_empty_turn_is_told_before_the_first_begins(editor: Editor) -> None:
    steps: list[int] = []
    for texts in ([], ["a", " "]):
        with pytest.raises(InstructionError):
            edit_in_sequence(editor, noise(1), texts, seeds=1, on_step=lambda step, _: steps.append(step))
    assert not steps


@pytest.mark.slow
def test_the_bundled_editor_keeps_what_no_turn_changed() -> None:
    editor, image = Editor.from_pretrained(device="cpu"), open_image(COTTAGE)
    made, plain = (
        pixels(
            edit_in_sequence(
                editor, image, ["add a balloon", "make the cottage red"], seeds=1,
                steps=6, keep_unchanged=keep,
            )[0].image
        )
        for keep in (True, False)
    )  # fmt: skip
    same = (made == pixels(image)).all(-1)
    assert 0.1 < same.mean() < 0.99 and (plain == pixels(image)).all(-1).mean() < 0.05


def test_the_command_takes_turns_and_writes_what_is_on_the_way(
    editor_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    noise(1).save("a.png")
    words = ["edit", "a.png", "make it winter", "a cow", "--model", str(editor_folder), "--seed", "4", "-o", "out.png"]
    assert cli.run([*words, "--steps", "4", "--save-progress", "--progress-every", "2"]) == 0
    names = ["out-turn1-step002", "out-turn1-step004", "out-turn1", "out-turn2-step002", "out-turn2-step004", "out"]
    shown = [line.partition(",")[0].rstrip(")") for line in capsys.readouterr().out.splitlines()]
    assert shown == [f"{name}.png (seed 4" for name in names]
    assert read_parameters("out.png")["turns"] == ["make it winter", "a cow"]
    preview = read_parameters("out-turn1-step002.png")
    assert preview.items() >= {"instruction": "make it winter", "seed": 4, "step": 2}.items()
    assert cli.run([*words, ""]) == 2 and "the instruction is empty" in capsys.readouterr().err


def test_the_command_writes_steps_of_one_turn_and_edits_inside_a_mask(
    editor_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    noise(1).save("a.png")
    mask = Image.new("L", (32, 32))
    mask.paste(255, (0, 0, 16, 32))
    mask.save("m.png")
    Image.new("L", (32, 31), 255).save("small.png")
    words = ["edit", "a.png", "make it winter", "--model", str(editor_folder), "--seed", "4", "-o", "out.png"]
    assert cli.run([*words, "--mask", "small.png"]) == 2
    assert "small.png is 32 x 31 pixels, the picture 32 x 32. Give a mask" in capsys.readouterr().err
    assert cli.run([*words, "--mask", "m.png", "--steps", "5", "--save-progress"]) == 0
    assert sorted(path.name for path in tmp_path.glob("out*")) == ["out-step005.png", "out.png"]
    assert np.array_equal(pixels(open_image("out.png"))[:, 16:], pixels(noise(1))[:, 16:])


def test_each_picture_may_have_its_negative_prompt(editor: Editor) -> None:
    images, texts, options = [noise(1), noise(2)], ["make it winter", "make it night"], {"steps": 1, "seeds": 3}
    both = edit_in_sequence(editor, images, texts, negative_prompt=["day", "fog"], samples=2, **options)
    assert [each.parameters["negative_prompt"] for each in both] == ["day", "day", "fog", "fog"]
    alone = edit_in_sequence(editor, images[1], texts, negative_prompt="fog", samples=2, **options)
    assert np.abs(pixels(both[3].image) - pixels(alone[1].image)).max() <= 1
