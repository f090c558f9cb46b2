"""Masks of changed pixels: the same crop and flip as their pictures."""

from pathlib import Path

import pytest
import torch
from datasets import Dataset, Features, Image, Value
from pair_files import parquet, web_dataset
from PIL import Image as Pictures

from ip2p.errors import DataError
from ip2p.train.batches import Augmentation
from ip2p.train.masks import Masks
from ip2p.train.pairs import open_pairs

SHAPE = [(32, 32)]
INSTEAD = torch.full((1, 1, 8, 8), 0.5)


def masks(folder: Path, mask: Pictures.Image | None) -> Masks:
    features = Features(
        {name: Image() for name in ("original_image", "edited_image", "edit_mask")} | {"edit_prompt": Value("string")}
    )
    picture = Pictures.new("RGB", (48, 32))
    rows = [{"original_image": picture, "edited_image": picture, "edit_prompt": "a", "edit_mask": mask}] * 3
    folder.mkdir()
    Dataset.from_list(rows, features=features).to_parquet(folder / "train-00000.parquet")
    return Masks(open_pairs(folder).train, downscale=4)


def test_a_latent_pixel_has_the_share_of_its_changed_pixels_after_crop_and_flip(tmp_path: Path) -> None:
    mask = Pictures.new("L", (48, 32))
    mask.paste(255, (16, 0, 22, 32))
    found = masks(tmp_path / "data", mask)
    left = found.at([0], [Augmentation(False, 1.0, 0.5)], SHAPE, INSTEAD)  # the crop begins at x = 16
    assert left.shape == (1, 1, 8, 8) and left[0, 0, 3].tolist() == [1, 0.5, 0, 0, 0, 0, 0, 0]
    mirrored = found.at([1], [Augmentation(True, 1.0, 0.5)], SHAPE, INSTEAD)
    assert torch.equal(mirrored, left.flip(-1))


def test_rows_without_a_mask_take_what_is_given(tmp_path: Path, pairs_folder: Path) -> None:
    crop = [Augmentation(False, 0.5, 0.5)]
    assert torch.equal(masks(tmp_path / "data", None).at([0], crop, SHAPE, INSTEAD), INSTEAD)
    without = Masks(open_pairs(pairs_folder).train, downscale=4)
    assert torch.equal(without.at([0], crop, SHAPE, INSTEAD), INSTEAD)


def test_masks_are_read_from_tar_files_and_beside_sets_without(tmp_path: Path) -> None:
    web_dataset(tmp_path, masks=True)
    parquet("original_image", "edited_image", "edit_prompt")(tmp_path / "plain")
    found = Masks(open_pairs(tmp_path / "train-000000.tar", tmp_path / "plain").train, downscale=4)
    crop = [Augmentation(False, 0.5, 0.5)] * 2
    both = found.at([0, 19], crop, SHAPE * 2, INSTEAD.expand(2, 1, 8, 8))
    assert both[0].eq(1).all() and both[1].eq(0.5).all()


def test_a_damaged_mask_is_told(tmp_path: Path) -> None:
    found = masks(tmp_path / "data", Pictures.new("L", (48, 32)))
    assert found.stored is not None
    found.stored = Dataset.from_list([{"edit_mask": {"bytes": b"\x89PNG nothing", "path": None}}])
    with pytest.raises(DataError, match="edit_mask of row 0"):
        found.at([0], [Augmentation(False, 0.5, 0.5)], SHAPE, INSTEAD)
