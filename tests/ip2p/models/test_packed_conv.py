"""Packed convolutions compute what plain ones do, within a budget, and are saved as plain ones."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ip2p import Editor
from ip2p.models.backbone import load_backbone, save_backbone
from ip2p.models.packed_conv import MAX_PACKED_PIXELS, MAX_SIZES, PackedConv2d, pack_convolutions


@pytest.mark.parametrize("settings", [
    {"kernel_size": 3, "padding": 1}, {"kernel_size": 3, "padding": 1, "stride": 2}, {"kernel_size": 1},
    {"kernel_size": 3, "padding": 1, "bias": False}, {"kernel_size": 3, "groups": 4},
])  # fmt: skip
@torch.no_grad()
def test_a_packed_convolution_is_the_plain_one(settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 16, **settings)
    weight = conv.weight.clone()
    given = [torch.randn(rows, 8, height, 10) for rows, height in ((2, 12), (1, 33), (3, 4), (1, 5), (2, 12), (9, 40))]
    expected = [conv(x) for x in given]
    pack_convolutions(conv)
    assert isinstance(conv, PackedConv2d)
    for x, plain in zip(given, expected, strict=True):
        for form in (torch.contiguous_format, torch.channels_last):
            assert torch.allclose(conv(x.contiguous(memory_format=form)), plain, atol=1e-5)
            assert len(conv.packed) <= MAX_SIZES and (x.shape in conv.packed) == (
                len(x) * x[0, 0].numel() <= MAX_PACKED_PIXELS
            )
    assert torch.equal(conv.state_dict()["weight"], weight)


@torch.no_grad()
def test_no_more_memory_is_taken_than_there_is() -> None:
    network = nn.Sequential(*(nn.Conv2d(4, 4, 1) for _ in range(3)))
    expected = network(torch.ones(1, 4, 2, 2))
    pack_convolutions(network, max_bytes=2 * network[0].weight.nbytes)
    assert torch.allclose(network(torch.ones(1, 4, 2, 2)), expected, atol=1e-6)
    assert [len(conv.packed) for conv in network] == [1, 1, 0]
    assert torch.allclose(network(torch.ones(2, 4, 2, 2)), expected.expand(2, -1, -1, -1), atol=1e-6)
    assert [len(conv.packed) for conv in network] == [1, 1, 0]


def test_what_is_no_plain_convolution_in_fp32_stays_as_it_is() -> None:
    network = nn.Sequential(
        nn.Conv2d(4, 4, 3, padding="same"), nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.ConvTranspose2d(4, 4, 3), nn.Linear(4, 4), nn.Conv2d(4, 4, 3).to(torch.bfloat16),
    )  # fmt: skip
    kinds = [type(each) for each in network]
    pack_convolutions(network)
    assert [type(each) for each in network] == kinds


def test_elsewhere_it_is_a_plain_convolution() -> None:
    conv = nn.Conv2d(4, 6, 3)
    pack_convolutions(conv)
    moved = conv.to("meta")  # as to a GPU, by an offloading hook
    assert moved(torch.ones(1, 4, 8, 8, device="meta")).shape == (1, 6, 6, 6) and not moved.packed


def test_an_editor_is_packed_and_can_be_saved(editor_folder: Path, tmp_path: Path) -> None:
    backbone = Editor.from_pretrained(str(editor_folder), device="cpu").backbone
    assert isinstance(backbone.unet.conv_in, PackedConv2d)
    assert any(isinstance(module, PackedConv2d) for module in backbone.vae.modules())
    save_backbone(backbone, tmp_path / "copy", pipeline_class=backbone.pipeline_class, dtype=torch.float32)
    before, after = (load_backbone(folder).unet.state_dict() for folder in (editor_folder, tmp_path / "copy"))
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
