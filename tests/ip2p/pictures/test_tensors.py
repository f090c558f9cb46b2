"""Pictures survive tensors."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ip2p.errors import ImageError
from ip2p.pictures import tensors

PICTURE = Image.merge("RGB", [Image.linear_gradient("L").rotate(90 * k).resize((24, 16)) for k in range(3)])
sizes = st.integers(1, 12)


@given(st.integers(1, 3), sizes, sizes, st.integers(0, 2**32))
def test_pictures_survive_tensors(count: int, width: int, height: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    pictures = [Image.fromarray(row) for row in pixels]
    x = tensors.to_tensor(pictures)
    assert x.shape == (count, 3, height, width)
    assert x.min() >= -1 and x.max() <= 1
    assert [image.tobytes() for image in tensors.to_images(x)] == [row.tobytes() for row in pixels]


def test_values_are_rounded_and_clamped() -> None:
    x = torch.tensor([-7.0, -1, 0, 0.999, 1, 7]).view(1, 1, 1, 6).expand(1, 3, 1, 6)
    assert [tensors.to_images(x)[0].getpixel((k, 0))[0] for k in range(6)] == [0, 0, 128, 255, 255, 255]


def test_pictures_of_two_sizes_are_no_batch() -> None:
    with pytest.raises(ImageError, match="2 sizes"):
        tensors.to_tensor([PICTURE, PICTURE.rotate(90, expand=True)])


def test_pictures_of_other_modes_are_not_clipped() -> None:
    deep = Image.fromarray(np.full((16, 16), 40_000, dtype=np.uint16))
    assert tensors.to_images(tensors.to_tensor([deep]))[0].getpixel((0, 0)) == (156, 156, 156)
