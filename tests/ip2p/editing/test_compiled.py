"""A compiled UNet draws the same picture; where nothing can be compiled that is told at once."""

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from ip2p import Editor
from ip2p.errors import ConfigError
from ip2p.pictures.tensors import to_tensor


@pytest.mark.skipif(not shutil.which("g++"), reason="torch compiles for a CPU by a C++ compiler")
@pytest.mark.slow
def test_a_compiled_editor_draws_the_same_picture(editor_folder: Path) -> None:
    plain = Editor.from_pretrained(str(editor_folder), device="cpu")
    side = plain.backbone.image_size
    picture = Image.new("RGB", (side, side), (200, 60, 20))
    editor = Editor.from_pretrained(str(editor_folder), device="cpu", compiled=True)
    for _ in range(2):
        made, expected = (each.edit(picture, "make it winter", seeds=3, steps=2)[0] for each in (editor, plain))
        assert (to_tensor([made.image]) - to_tensor([expected.image])).abs().max() < 0.02
        assert made.parameters["compiled"] and "compiled" not in expected.parameters
    with pytest.warns(UserWarning, match="reuse=2 is left out"):
        (again,) = editor.edit(picture, "make it winter", seeds=3, steps=2, reuse=2)
    assert "reuse" not in again.parameters and again.image.tobytes() == made.image.tobytes()


def test_a_machine_that_cannot_compile_is_told_before_the_first_edit(
    editor_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._inductor import config

    monkeypatch.setattr(config.cpp, "cxx", ("/nowhere/c++",))
    monkeypatch.setattr(config, "force_disable_caches", True)
    torch.compiler.reset()
    with pytest.raises(ConfigError, match="cannot compile the UNet.*leave out compiled=True") as error:
        Editor.from_pretrained(str(editor_folder), device="cpu", compiled=True)
    assert "\n" not in str(error.value)
