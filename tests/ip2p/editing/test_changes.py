"""What an edit has changed is what goes beyond the autoencoder's own error."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ip2p import Editor, cli
from ip2p.editing.changes import change_mask, change_per_pixel, changed_shares
from ip2p.pictures.read import open_image
from ip2p.pictures.tensors import to_tensor
from ip2p.pictures.write import read_parameters

COTTAGE = Path(__file__).parents[3] / "examples/cottage.png"


def pixels(image: Image.Image) -> Any:
    return np.asarray(image).astype(int)


def test_change_is_what_goes_beyond_the_autoencoders_own_error() -> None:
    """The round trip errs by 0.04 everywhere: up to 0.08 is no change, from 0.16 a full one."""
    source = torch.zeros(1, 3, 40, 40)
    for away, share in ((0.0, 0.0), (0.07, 0.0), (0.12, 0.5), (0.17, 1.0)):
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
        assert not pixels(change_mask(backbone, image, same)).any()
        other = same.copy()
        other.paste("magenta", (0, 0, 40, 40))
        mask = pixels(change_mask(backbone, image, other))
        assert (mask[:30, :30] == 255).all() and not mask[50:].any() and not mask[:, 50:].any()
        assert change_mask(backbone, image.resize((500, 300)), other).size == (500, 300)


def test_the_share_of_changed_pixels_is_that_inside_the_mask() -> None:
    backbone, image = Editor.from_pretrained(device="cpu").backbone, open_image(COTTAGE)
    source = to_tensor([image, image, image])
    with torch.no_grad():
        trip = backbone.decode(backbone.encode_target(source[:1]))
    same = Image.fromarray(((trip[0].permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255).byte().numpy())
    half = same.copy()
    half.paste("magenta", (0, 0, 64, 128))
    mask = Image.new("L", (500, 500))
    mask.paste(255, (0, 0, 250, 500))
    nothing, left, inside = changed_shares(backbone, source, [same, half, half], [None, None, mask])
    assert nothing == 0.0 and abs(left - 0.5) < 0.05 and inside > 0.97


def test_an_edit_says_what_share_of_the_pixels_it_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["edit", str(COTTAGE), "--steps", "6", "--seed", "3", "-o"]
    assert cli.run([*words, "same.png", "make it winter", "--text-scale", "0", "--image-scale", "2"]) == 0
    captured = capsys.readouterr()
    same = read_parameters("same.png")["changed"]
    assert captured.out == f"same.png (seed 3, {same[0]:.0%} of the pixels changed)\n"
    assert cli.run([*words, "night.png", "make it night", "add a cow"]) == 0
    captured = capsys.readouterr()
    night, cow = read_parameters("night.png")["changed"]
    assert same[0] < 0.4 < 0.6 < night and cow < night
    assert captured.out == f"night.png (seed 3, {night:.0%}, then {cow:.0%} of the pixels changed)\n"


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
