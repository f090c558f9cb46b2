"""Batches: invalid data sets, crop and flip, pictures as they are stored, loading ahead."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Value
from datasets import Image as Picture
from PIL import Image, ImageChops

from ip2p.errors import DataError
from ip2p.models.backbone import Backbone, load_backbone
from ip2p.pictures.color import to_rgb
from ip2p.pictures.read import open_image
from ip2p.train.batches import CENTER_CROP, Augmentation, Batches, augment, positions
from ip2p.train.pairs import open_pairs
from ip2p.train.ranks import Ranks


def test_ranks_share_the_positions_without_overlap() -> None:
    taken = [
        position
        for step in range(3)
        for rank in range(4)
        for micro in positions(step * 24, batch=3, accumulation=2, rank=rank, ranks=4)
        for position in micro
    ]
    assert sorted(taken) == list(range(72))


def test_crop_and_flip_move_both_pictures_alike() -> None:
    image = Image.linear_gradient("L").rotate(90).resize((60, 40)).convert("RGB")
    left, right = augment(image, 40, Augmentation(False, 0, 0)), augment(image, 40, Augmentation(False, 1, 0))
    assert left.size == right.size == (40, 40) and left != right
    assert augment(image, 40, Augmentation(True, 0, 0)) == left.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert augment(image.resize((300, 200)), 40, CENTER_CROP).size == (40, 40)


def test_pairs_stay_pairs_under_augmentation(tmp_path: Path, tiny_base: Path, make_pairs: Callable[..., Path]) -> None:
    pairs = open_pairs(make_pairs(tmp_path / "wide", 6, size=(64, 40)))
    batches = Batches(pairs.train, load_backbone(tiny_base), size=32, seed=1, flip=True)
    augmentations = {batches.augmentation(position) for position in range(40)}
    assert {a.flip for a in augmentations} == {True, False} and len(augmentations) == 40
    original, edited = batches.pictures(0, Augmentation(True, 0.2, 0.0))
    difference = ImageChops.difference(edited, original.point(lambda value: value // 2 + 100))
    assert max(high for _, high in difference.getextrema()) <= 3  # both were resized, and rounded


def test_pictures_of_different_size_in_a_pair_are_refused(tiny_base: Path, pairs_folder: Path) -> None:
    pairs = open_pairs(pairs_folder).train
    row = {**pairs[0], "edited_image": Image.new("RGB", (9, 9))}
    broken = Dataset.from_list([row], features=pairs.features)
    with pytest.raises(DataError, match="row 0"):
        Batches(broken, load_backbone(tiny_base), size=32, seed=0, flip=False).pictures(0)


def test_batches_that_are_loaded_ahead_are_the_same(pairs_folder: Path, tiny_base: Path) -> None:
    pairs, backbone = open_pairs(pairs_folder).train, load_backbone(tiny_base)
    plain, ahead = (Batches(pairs, backbone, size=32, seed=1, flip=True) for _ in range(2))
    ahead.stride = 8  # of two ranks, the second one
    for start in (4, 12, 20, 28, 12):
        (texts, latents), (expected_texts, expected) = (each.at(range(start, start + 4)) for each in (ahead, plain))
        assert texts == expected_texts
        assert all(torch.equal(*parts) for parts in zip(latents, expected, strict=True))
    ahead.close()


# -- pictures as they are stored -------------------------------------------------------------------------------------


def stored(image: Image.Image, kind: str = "PNG", **options: Any) -> dict[str, Any]:
    """A picture as the file that it is stored as."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return {"bytes": stream.getvalue(), "path": None}


def pictures_of(
    backbone: Backbone, original: dict[str, Any], edited: dict[str, Any]
) -> tuple[Image.Image, Image.Image]:
    """What is trained on of a data set of one pair of 32 px."""
    features = Features({"original_image": Picture(), "edit_prompt": Value("string"), "edited_image": Picture()})
    row = {"original_image": original, "edit_prompt": "make it winter", "edited_image": edited}
    return Batches(Dataset.from_list([row], features=features), backbone, size=32, seed=0, flip=False).pictures(0)


PHOTO = Image.merge("RGB", [Image.linear_gradient("L").rotate(90 * k).resize((32, 32)) for k in range(3)])


def test_pictures_are_opened_as_those_to_edit_are(tmp_path: Path, tiny_base: Path) -> None:
    """16-bit pictures were white."""
    deep = Image.fromarray(np.full((32, 32), 40_000, dtype=np.uint16))
    (exif := Image.Exif())[0x0112] = 6
    clear = PHOTO.copy()
    clear.putalpha(Image.new("L", clear.size, 51))
    cases = [
        stored(deep), stored(deep, "TIFF"), stored(PHOTO, "JPEG", exif=exif), stored(clear), stored(PHOTO, "AVIF"),
        stored(PHOTO.convert("CMYK"), "TIFF"), stored(PHOTO, "GIF", save_all=True, append_images=[PHOTO.rotate(90)]),
    ]  # fmt: skip
    backbone = load_backbone(tiny_base)
    for case in cases:
        (tmp_path / "picture").write_bytes(case["bytes"])
        expected = to_rgb(open_image(tmp_path / "picture", frame=0))
        seen = [*pictures_of(backbone, case, stored(PHOTO)), *pictures_of(backbone, stored(PHOTO), case)]
        assert seen[0].tobytes() == seen[3].tobytes() == expected.tobytes()
        assert seen[1].tobytes() == seen[2].tobytes() == PHOTO.tobytes()
    assert pictures_of(backbone, cases[0], cases[1])[0].getpixel((0, 0)) == (156, 156, 156)
    named = {"bytes": None, "path": str(tmp_path / "picture")}
    assert pictures_of(backbone, named, named)[0].tobytes() == expected.tobytes()


def test_pictures_that_cannot_be_read_are_told_by_row_and_column(tmp_path: Path, tiny_base: Path) -> None:
    backbone, whole = load_backbone(tiny_base), stored(PHOTO)
    torn = {"bytes": whole["bytes"][:-40], "path": None}
    for case, words in [
        (torn, "edited_image of row 0 is damaged"),
        ({"bytes": b"%PDF-1.7", "path": None}, "edited_image of row 0 is not a readable picture: it is PDF"),
        ({"bytes": None, "path": str(tmp_path / "gone.png")}, "gone.png"),
        (None, "row 0"),
    ]:
        with pytest.raises(DataError, match=words):
            pictures_of(backbone, whole, case)


def test_a_resize_range_draws_every_short_side_and_moves_nothing_else(
    tiny_base: Path, tmp_path: Path, make_pairs: Callable[..., Path]
) -> None:
    pairs, backbone = open_pairs(make_pairs(tmp_path / "data", 5)).train, load_backbone(tiny_base)
    plain, ranged = (Batches(pairs, backbone, size=16, seed=3, flip=True, resize=resize) for resize in (None, (20, 24)))
    drawn = [ranged.augmentation(position) for position in range(60)]
    assert {each.short for each in drawn} == {20, 21, 22, 23, 24}
    assert [each._replace(short=0) for each in drawn] == [plain.augmentation(position) for position in range(60)]
    ranged.cache(tmp_path / "latents", dtype="fp16", ranks=Ranks(), say=lambda _: None)
    assert not (tmp_path / "latents").exists()


def test_a_pair_is_resized_before_its_crop() -> None:
    ramp = Image.linear_gradient("L").resize((64, 128))
    cropped = augment(ramp, 16, Augmentation(False, 0.0, 1.0, short=32))
    bottom = ramp.resize((32, 64), Image.Resampling.LANCZOS).crop((0, 48, 16, 64))
    assert cropped.size == (16, 16) and not ImageChops.difference(cropped, bottom).getbbox()
