"""The public surface: names, the ways to call an editor, and what wrong arguments are answered with."""

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ip2p
from ip2p import ConfigError, Editor, EditSettings, InstructionError, Ip2pError, edit_in_sequence

PICTURE = Image.linear_gradient("L").convert("RGB").resize((32, 32))


@pytest.fixture(scope="module")
def editor(editor_folder: Path) -> Editor:
    return Editor.from_pretrained(str(editor_folder), device="cpu")


def test_what_is_public_is_there_and_nothing_else() -> None:
    assert [name for name in ip2p.__all__ if getattr(ip2p, name) is None] == []
    assert dir(ip2p) == sorted(ip2p.__all__)
    own = [each for each in vars(ip2p.errors).values() if isinstance(each, type) and issubclass(each, Ip2pError)]
    assert {each.__name__ for each in own} <= set(ip2p.__all__)


def test_importing_it_imports_nothing_heavy() -> None:
    heavy = "import sys, ip2p; print(sorted({'torch', 'diffusers', 'transformers', 'PIL'} & sys.modules.keys()))"
    ran = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_one_edit_needs_no_unpacking(editor: Editor) -> None:
    (edited,) = editor.edit(PICTURE, "make it winter", seeds=7, steps=2)
    assert editor.edit_one(PICTURE, "make it winter", seed=7, steps=2).image == edited.image


def test_settings_come_one_by_one_or_all_at_once(editor: Editor) -> None:
    settings = EditSettings(steps=3, text_scale=4.0, resolution=16)
    by_name = editor.edit_one(PICTURE, "make it winter", seed=7, **settings.model_dump())
    (at_once,) = editor.edit(PICTURE, "make it winter", seeds=7, settings=settings)
    (both,) = editor.edit(PICTURE, "make it winter", seeds=7, settings=settings, steps=2)
    assert at_once.image == by_name.image and at_once.parameters["steps"] == 3
    assert both.parameters["steps"] == 2 and both.parameters["text_scale"] == 4.0


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        ({"scale": 3.0}, "there is no setting 'scale'. Here it is called text_scale"),
        ({"guidance_scale": 3.0}, "there is no setting 'guidance_scale'. Here it is called text_scale"),
        ({"image_guidance_scale": 3.0}, "Here it is called image_scale"),
        ({"num_inference_steps": 3}, "Here it is called steps"),
        ({"generator": None}, "Here it is called seeds"),
        ({"seed": 3}, "Did you mean seeds?"),
        ({"step": 3}, "Did you mean steps?"),
        ({"colour": 3}, "Give some of steps, scheduler"),
    ],
)
def test_unknown_names_are_answered_with_ours(editor: Editor, options: dict[str, object], answer: str) -> None:
    with pytest.raises(ConfigError) as error:
        editor.edit(PICTURE, "make it winter", **options)  # type: ignore[arg-type]
    assert answer in str(error.value)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"scheduler": "magic"}, {"colour": 1}, {"tolerance": 0.1, "reuse": 2}])
def test_settings_that_make_no_sense_are_one_line(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as error:
        EditSettings(**wrong)
    assert "\n" not in str(error.value)


def test_seeds_may_be_numpys(editor: Editor) -> None:
    expected = editor.edit(PICTURE, "make it winter", seeds=[3, 4], steps=1)
    made = editor.edit(PICTURE, "make it winter", seeds=np.array([3, 4]), steps=1)
    assert [each.image for each in made] == [each.image for each in expected]
    assert editor.edit(PICTURE, "make it winter", seeds=np.int64(3), steps=1)[0].image == expected[0].image


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        ("'a.png'", "a picture is a builtins.str. Open the file first"),
        ("pathlib.Path('a.png')", "Open the file first"),
        ("numpy.zeros((16, 16, 3))", "a picture is a numpy.ndarray. Convert it"),
        ("torch.zeros(3, 16, 16)", "a picture is a torch.Tensor. Convert it"),
        ("7", "a picture is a builtins.int. Give a PIL.Image.Image"),
    ],
)
def test_what_is_no_picture_is_told_what_to_do(given: str, answer: str) -> None:
    """In a process of its own: here types are checked before ip2p sees them."""
    program = f"""
import pathlib, numpy, torch
from ip2p import ImageError
from ip2p.editing.requests import plan_requests
try:
    plan_requests({given}, 'make it winter', 7)
except ImageError as error:
    print(error)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer in ran.stdout


def test_several_threads_may_use_one_editor(editor: Editor) -> None:
    expected = [editor.edit_one(PICTURE, "make it winter", seed=seed, steps=4, preset="balanced") for seed in range(4)]
    made: dict[int, Image.Image] = {}

    def edit(seed: int) -> None:
        made[seed] = editor.edit_one(PICTURE, "make it winter", seed=seed, steps=4, preset="balanced").image

    threads = [threading.Thread(target=edit, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [made[seed] for seed in range(4)] == [each.image for each in expected]


def test_the_settings_of_a_model_that_are_not_exact_are_recorded(editor_folder: Path, tmp_path: Path) -> None:
    """Or the recorded parameters would draw another picture on the same model."""
    folder = Path(shutil.copytree(editor_folder, tmp_path / "model"))
    (folder / "ip2p.json").write_text('{"reuse": 3}')
    own = Editor.from_pretrained(str(folder), device="cpu")
    exact = own.edit_one(PICTURE, "make it winter", seed=3, steps=4, preset="exact")
    again = {name: exact.parameters[name] for name in EditSettings.model_fields if name in exact.parameters}
    assert exact.parameters["reuse"] == 1
    assert own.edit_one(PICTURE, "make it winter", seed=3, **again).image == exact.image


@pytest.mark.parametrize(
    ("options", "kind", "answer"),
    [
        ({"batch": 0}, ConfigError, "batch=0 cannot be used"),
        ({"seeds": -1}, InstructionError, "the seed -1 is out of range"),
        ({"scheduler": "lcm", "steps": 60}, ConfigError, "steps=60 cannot be used with this scheduler"),
    ],
)
def test_what_cannot_be_drawn_is_told(
    editor: Editor, options: dict[str, object], kind: type[Ip2pError], answer: str
) -> None:
    with pytest.raises(kind, match=answer):
        editor.edit(PICTURE, "make it winter", **options)  # type: ignore[arg-type]


def test_unknown_options_of_loading_are_told(editor_folder: Path) -> None:
    with pytest.raises(ConfigError, match="there is no option 'vae_tilling'"):
        Editor.from_pretrained(str(editor_folder), device="cpu", vae_tilling=True)  # type: ignore[call-arg]


def test_one_instruction_is_a_sequence_too(editor: Editor) -> None:
    sequence = edit_in_sequence(editor, PICTURE, "make it winter", seeds=3, steps=2, keep_unchanged=False)
    assert sequence[0].image == editor.edit_one(PICTURE, "make it winter", seed=3, steps=2).image
