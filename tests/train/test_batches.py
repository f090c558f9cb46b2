"""Batches: invalid data sets, the endless order, crop and flip, and the cache."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from PIL import Image, ImageChops

from ip2p.errors import DataError
from ip2p.models.backbone import load_backbone
from ip2p.train.batches import CENTER_CROP, Augmentation, Batches, ShuffledOrder, augment, open_pairs, positions


def test_the_packed_data_set_is_read_and_some_pairs_are_held_out(pairs_folder: Path) -> None:
    pairs = open_pairs(pairs_folder)
    assert (len(pairs.train), len(pairs.held_out)) == (20, 1)
    assert pairs.fingerprint() == open_pairs(pairs_folder).fingerprint()


def test_a_test_split_is_what_is_held_out(tmp_path: Path, make_pairs: Callable[..., Path]) -> None:
    make_pairs(tmp_path, 5)
    make_pairs(tmp_path / "more", 3).joinpath("train-00000.parquet").rename(tmp_path / "test-00000.parquet")
    pairs = open_pairs(tmp_path)
    assert (len(pairs.train), len(pairs.held_out)) == (5, 3)


def test_bad_data_sets_are_told_in_one_line(tmp_path: Path, make_pairs: Callable[..., Path]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "torn").mkdir()
    whole = make_pairs(tmp_path / "whole", 5) / "train-00000.parquet"
    (tmp_path / "torn" / "train.parquet").write_bytes(whole.read_bytes()[:-500])
    (tmp_path / "columns").mkdir()
    Dataset.from_dict({"edit_prompt": ["x"], "image": ["y"]}).to_parquet(tmp_path / "columns" / "train.parquet")
    make_pairs(tmp_path / "one", 1)
    said = {
        "missing": "no data set",
        "empty": "no parquet",
        "torn": "cannot read",
        "columns": "has no columns original_image, edited_image, but edit_prompt, image",
        "one": "few",
    }
    for name, words in said.items():
        with pytest.raises(DataError, match=words) as caught:
            open_pairs(tmp_path / name)
        assert "\n" not in str(caught.value) and "make dataset" in str(caught.value)


def test_every_row_comes_once_in_each_epoch_in_another_order() -> None:
    order = ShuffledOrder(10, seed=3)
    first, second = ([order.row(10 * epoch + place) for place in range(10)] for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(range(10)) and first != second


def test_a_position_means_the_same_sample_however_one_gets_there() -> None:
    order, scattered = ShuffledOrder(7, seed=3), random.Random(0).sample(range(70), 70)
    rows = {position: order.row(position) for position in scattered}
    assert [rows[position] for position in range(70)] == [
        ShuffledOrder(7, seed=3).row(position) for position in range(70)
    ]


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
    assert not batches.cache(lambda _: None)
    augmentations = {batches._augmentation(position) for position in range(40)}
    assert {a.flip for a in augmentations} == {True, False} and len(augmentations) == 40
    original, edited = batches.pictures(0, Augmentation(True, 0.2, 0.0))
    difference = ImageChops.difference(edited, original.point(lambda value: value // 2 + 100))
    assert max(high for _, high in difference.getextrema()) <= 3  # both were resized, and rounded


@pytest.mark.parametrize("flip", [False, True])
def test_cached_latents_are_those_of_the_pictures(pairs_folder: Path, tiny_base: Path, flip: bool) -> None:
    pairs = open_pairs(pairs_folder)
    cached, plain = (Batches(pairs.train, load_backbone(tiny_base), size=32, seed=1, flip=flip) for _ in range(2))
    said: list[str] = []
    assert cached.cache(said.append) and said
    for taken in (range(8), range(17, 25)):
        (texts, latents), (expected_texts, expected) = cached.at(taken), plain.at(taken)
        assert texts == expected_texts
        for part, whole in zip(latents, expected, strict=True):
            torch.testing.assert_close(part, whole, atol=1e-5, rtol=1e-4)


def test_pictures_of_different_size_in_a_pair_are_refused(tiny_base: Path, pairs_folder: Path) -> None:
    pairs = open_pairs(pairs_folder).train
    row = {**pairs[0], "edited_image": Image.new("RGB", (9, 9))}
    broken = Dataset.from_list([row], features=pairs.features)
    with pytest.raises(DataError, match="row 0"):
        Batches(broken, load_backbone(tiny_base), size=32, seed=0, flip=False).pictures(0)


def test_a_path_with_brackets_works(tmp_path: Path, make_pairs: Callable[..., Path]) -> None:
    assert len(open_pairs(make_pairs(tmp_path / "pairs [v1]*", 5)).train) == 4
