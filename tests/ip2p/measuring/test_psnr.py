"""PSNR of pictures in [-1, 1]."""

import pytest
import torch

from ip2p.measuring.psnr import psnr
from ip2p.pictures.tensors import to_images, to_tensor


def test_psnr_is_that_of_a_range_of_two() -> None:
    x = torch.zeros(2, 3, 8, 8)
    assert psnr(x + 0.2, x).tolist() == pytest.approx([20, 20])
    assert psnr(x, to_tensor(to_images(x))).min() > 45 and psnr(x, x).tolist() == [60, 60]
