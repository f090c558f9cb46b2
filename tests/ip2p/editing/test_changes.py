"""What an edit has changed is what goes beyond the autoencoder's own error."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ip2p import Editor, cli
from ip2p.editing.changes import change_mask, change_per_pixel, changed_share, compare
from ip2p.editing.requests import resize
from ip2p.editing.sequence import edit_in_sequence
from ip2p.pictures.color import to_rgb
from ip2p.pictures.read import open_image
from ip2p.pictures.tensors import to_tensor
from ip2p.pictures.write import read_parameters

COTTAGE = Path(__file__).parents[3] / "examples/cottage.png"


def pixels(image: Image.Image) -> Any:
    return np.asarray(image).astype(int)


def test_change_is_what_goes_beyond_the_autoencoders_own_error() -> None:
    """The round trip errs by 0.04 everywhere: up to 0.12 is no change, from 0.24 a full one."""
    source = torch.zeros(1, 3, 40, 40)
    for away, share in ((0.0, 0.0), (0.11, 0.0), (0.18, 0.5), (0.25, 1.0)):
        edit = torch.full_like(source, 0.04)
        edit[..., :20] += away
        seen = change_per_pixel(source, torch.full_like(source, 0.04), edit, cell=8)[0, 0]
        torch.testing.assert_close(seen[:, :14], torch.full((40, 14), share), atol=1e-3, rtol=0)
        assert not seen[:, 26:].any()
    assert not change_per_pixel(source, source, source, cell=8).any()  # an autoencoder without any error


def test_a_round_trip_is_no_change_and_another_picture_is_one() -> None:
    editor, image = Editor.from_pretrained(device="cpu"), open_image(COTTAGE)
    backbone = editor.backbone
    with torch.no_grad():
        trip = backbone.decode(backbone.encode_target(to_tensor([image])))
        same = Image.fromarray(((trip[0].permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255).byte().numpy())
        other = same.copy()
        other.paste("magenta", (0, 0, 40, 40))
        nothing, corner = compare(backbone, to_tensor([image, image]), [same, other])
        assert not pixels(change_mask(nothing, image.size)).any()
        mask = pixels(change_mask(corner, image.size))
        assert (mask[:30, :30] == 255).all() and not mask[50:].any() and not mask[:, 50:].any()
        assert change_mask(corner, (500, 300)).size == (500, 300)


def test_the_share_of_changed_pixels_is_that_inside_the_mask() -> None:
    backbone, image = Editor.from_pretrained(device="cpu").backbone, open_image(COTTAGE)
    source = to_tensor([image, image, image])
    with torch.no_grad():
        trip = backbone.decode(backbone.encode_target(source[:1]))
    same = Image.fromarray(((trip[0].permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255).byte().numpy())
    half = same.copy()
    half.paste("magenta", (0, 0, image.width // 2, image.height))
    mask = Image.new("L", (500, 500))
    mask.paste(255, (0, 0, 250, 500))
    changes = compare(backbone, source, [same, half, half])
    nothing, left, inside = map(changed_share, changes, [None, None, mask])
    assert nothing == 0.0 and abs(left - 0.5) < 0.05 and inside > 0.97


def test_an_edit_says_what_share_of_the_pixels_it_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["edit", str(COTTAGE), "--steps", "6", "--seed", "3", "-o"]
    assert cli.run([*words, "door.png", "paint the door blue"]) == 0
    captured = capsys.readouterr()
    door = read_parameters("door.png")["changed"]
    assert captured.out == f"door.png (seed 3, {door[0]:.0%} of the pixels changed)\n"
    assert cli.run([*words, "night.png", "make it night", "add a cow"]) == 0
    captured = capsys.readouterr()
    night, cow = read_parameters("night.png")["changed"]
    assert door[0] < 0.4 < 0.8 < night and cow < night
    assert captured.out == f"night.png (seed 3, {night:.0%}, then {cow:.0%} of the pixels changed)\n"


def test_a_single_edit_keeps_what_it_did_not_change_if_asked(editor_folder: Path) -> None:
    """The autoencoder of the tiny model errs by so much that nothing counts as changed."""
    editor, image = Editor.from_pretrained(str(editor_folder), device="cpu"), open_image(COTTAGE).resize((61, 45))
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    options: dict[str, Any] = {"seed": 5, "steps": 1, "measure_change": True}
    raw, kept = (editor.edit_one(image, "a", keep_unchanged=keep, **options) for keep in (None, True))
    assert "keep_unchanged" not in raw.parameters and kept.parameters["keep_unchanged"]
    assert raw.changed == kept.changed == (0.0,)
    assert not (pixels(to_rgb(raw.image)) == pixels(to_rgb(image))).all(-1).any()
    assert np.array_equal(pixels(kept.image.convert("RGB")), pixels(to_rgb(image))), "to the bit"
    assert kept.image.getchannel("A") == image.getchannel("A")
    small = editor.edit_one(image, "a", keep_unchanged=True, keep_size=False, **options).image
    assert np.array_equal(pixels(small), pixels(resize(to_rgb(image), small.size)))


@pytest.mark.parametrize(("own", "single", "several"), [(None, False, True), (True, True, True), (False, False, False)])
def test_a_model_says_whether_unchanged_pixels_are_kept_and_a_caller_decides(
    own: bool | None, single: bool, several: bool, editor_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(editor_folder, tmp_path / "model"))
    (folder / "ip2p.json").write_text(json.dumps({} if own is None else {"keep_unchanged": own}))
    editor, image = Editor.from_pretrained(str(folder), device="cpu"), open_image(COTTAGE).resize((32, 32))

    def keeps(texts: list[str], **asked: Any) -> bool:
        edit: Any = edit_in_sequence if len(texts) > 1 else Editor.edit
        (made,) = edit(editor, image, texts, seeds=5, steps=1, **asked)
        same = np.array_equal(pixels(made.image), pixels(image))
        assert made.parameters.get("keep_unchanged", False) is same
        return same

    assert (keeps(["a"]), keeps(["a", "b"])) == (single, several)
    for keep in (True, False):
        assert keeps(["a"], keep_unchanged=keep) is keeps(["a", "b"], keep_unchanged=keep) is keep


@pytest.mark.parametrize(
    ("changed", "hint"),
    [
        ((0.001,), "almost nothing changed: raise --text-scale"),
        ((0.4, 0.99), "almost everything"),
        ((0.4,), ""),
    ],
)
def test_at_the_extremes_a_scale_to_move_is_suggested(changed: tuple[float, ...], hint: str) -> None:
    from ip2p.cli.edit import describe_change
    from ip2p.editing.editor import Edited

    said = describe_change(Edited(Image.new("RGB", (8, 8)), 1, {}, 1, changed))
    assert said[1].startswith(hint) and bool(said[1]) == bool(hint)
