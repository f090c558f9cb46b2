"""Outside of a mask nothing changes, to the bit; inside of it the edit is what it would be, and both join."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ip2p import Editor
from ip2p.editing.masks import check_mask, keep_outside, open_mask, paste
from ip2p.errors import ImageError, InstructionError
from ip2p.pictures.tensors import to_tensor
from ip2p.settings import SCHEDULERS


def noise(seed: int, size: tuple[int, int] = (32, 32)) -> Image.Image:
    width, height = size
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def box(size: tuple[int, int], corners: tuple[int, int, int, int]) -> Image.Image:
    mask = Image.new("L", size)
    mask.paste(255, corners)
    return mask


def pixels(image: Image.Image) -> Any:
    return np.asarray(image).astype(int)


@pytest.fixture(scope="module")
def editor(editor_folder: Path) -> Editor:
    return Editor.from_pretrained(str(editor_folder), device="cpu")


@pytest.mark.parametrize("size", [(32, 32), (61, 45), (200, 90)])
def test_outside_of_a_mask_pixels_stay_and_inside_they_change(editor: Editor, size: tuple[int, int]) -> None:
    image, mask = noise(1, size), box(size, (3, 5, size[0] // 2, size[1] // 2))
    (made,) = editor.edit(image, "make it winter", seeds=1, steps=2, masks=mask)
    outside = np.asarray(mask) == 0
    assert np.array_equal(pixels(made.image)[outside], pixels(image)[outside])
    assert np.abs(pixels(made.image) - pixels(image))[~outside].mean() > 5


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_latents_outside_come_to_the_originals(editor: Editor, scheduler: str) -> None:
    """What is drawn inside joins the picture as the autoencoder sees it, not another picture."""
    image, mask, seen = noise(1), box((32, 32), (0, 0, 16, 32)), []
    editor.edit(
        image, "make it winter", seeds=1, steps=4, masks=mask, scheduler=scheduler, on_step=lambda _, x: seen.append(x)
    )
    origin = editor.backbone.encode_target(to_tensor([image]))
    distances = [float((x - origin)[..., 4:].std()) for x in seen]
    assert torch.equal(seen[-1][..., 4:], origin[..., 4:]) and not torch.equal(seen[-1][..., :4], origin[..., :4])
    assert distances == sorted(distances, reverse=True) and distances[0] > 0.2


def test_a_white_mask_is_no_mask_and_grey_blends(editor: Editor) -> None:
    image = noise(1)
    whole, white, grey = (
        pixels(editor.edit(image, "make it winter", seeds=1, steps=2, masks=mask)[0].image)
        for mask in (None, Image.new("L", (32, 32), 255), Image.new("L", (32, 32), 51))
    )
    assert np.array_equal(whole, white)
    assert np.abs(grey - (0.2 * whole + 0.8 * pixels(image))).max() <= 1


def test_each_edit_has_the_mask_of_its_own(editor: Editor) -> None:
    images = [noise(1), noise(2, (40, 24)), noise(3)]
    masks = [box((32, 32), (0, 0, 8, 32)), None, box((32, 32), (24, 0, 32, 32))]
    made = editor.edit(images, "make it winter", seeds=4, steps=2, masks=masks, samples=2, batch=3)
    for place, each in enumerate(made):
        mask = masks[place // 2]
        changed = (pixels(each.image) != pixels(images[place // 2])).any(-1)
        assert changed.any() and (mask is None or not changed[np.asarray(mask) == 0].any())


def test_a_thin_line_gets_latents_of_its_own() -> None:
    constrain = keep_outside(torch.zeros(2, 4, 8, 8), [box((100, 100), (50, 0, 51, 100)), None], 4)
    held = constrain(torch.ones(2, 4, 8, 8), lambda clean: clean)
    assert held[0].sum(dim=(0, 1)).tolist() == [0, 0, 0, 0, 32, 0, 0, 0] and held[1].all()


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "P", "I;16"])
def test_masks_are_of_any_mode(mode: str) -> None:
    grey = box((6, 4), (0, 0, 3, 4))
    mask = grey.convert("RGB").convert("P") if mode == "P" else grey.convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        mask = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    assert np.array_equal(np.asarray(check_mask(mask, (6, 4))), np.asarray(grey))


def test_pasting_is_exact_at_both_ends() -> None:
    one, two, mask = noise(1), noise(2), box((32, 32), (0, 0, 9, 9))
    assert paste(one, two, None) is one
    made, inside = pixels(paste(one, two, mask)), np.asarray(mask) == 255
    assert np.array_equal(made[inside], pixels(one)[inside]) and np.array_equal(made[~inside], pixels(two)[~inside])


def test_masks_that_do_not_fit_are_refused_before_the_first_step(editor: Editor, tmp_path: Path) -> None:
    steps: list[int] = []
    settings: dict[str, Any] = {"on_step": lambda step, _: steps.append(step), "seeds": 1}
    box((30, 20), (0, 0, 9, 9)).save(tmp_path / "small.png")
    output = "30 x 20 pixels, the picture 32 x 32. Give a mask of the picture's size"
    with pytest.raises(ImageError, match=f"small.png is {output}"):
        open_mask(tmp_path / "small.png", (32, 32))
    with pytest.raises(ImageError, match=f"the mask is {output}"):
        editor.edit(noise(1), "a", masks=box((30, 20), (0, 0, 9, 9)), **settings)
    with pytest.raises(ImageError, match="all black"):
        editor.edit([noise(1), noise(2)], "a", masks=[None, Image.new("L", (32, 32))], **settings)
    with pytest.raises(InstructionError, match="3 masks for 2 edits. Give 1 or 2"):
        editor.edit([noise(1), noise(2)], "a", masks=[None] * 3, **settings)
    assert not steps


def test_every_image_with_every_instruction(editor: Editor) -> None:
    images, texts = [noise(1), noise(2, (40, 24))], ["make it winter", "a cow", "make it night"]
    masks = [None, box((40, 24), (0, 0, 8, 24))]
    made = editor.edit(images, texts, cross=True, masks=masks, seeds=5, samples=2, steps=1, batch=3)
    assert [(each.image.size, each.parameters["instruction"], each.seed) for each in made] == [
        (image.size, text, seed) for image in images for text in texts for seed in (5, 6)
    ]
    changed = [(pixels(each.image) != pixels(images[1])).any(-1)[:, 8:].any() for each in made[6:]]
    assert not any(changed)
    (alone,) = editor.edit(images[0], texts[1], seeds=6, steps=1)
    assert np.abs(pixels(made[3].image) - pixels(alone.image)).max() <= 1
