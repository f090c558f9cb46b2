"""Ways to spare memory change where networks lie, and not what they compute."""

from pathlib import Path

import pytest
import torch

from ip2p import Editor
from ip2p.errors import ConfigError
from ip2p.models.backbone import load_backbone
from ip2p.models.offload import hook_networks, tile


def test_offloading_on_a_cpu_is_refused_before_anything_is_loaded() -> None:
    with pytest.raises(ConfigError, match="the device is the CPU. Leave it out"):
        Editor.from_pretrained("no/such-model", device="cpu", cpu_offload=True)


def test_networks_that_move_compute_the_same(sd_editor_folder: Path) -> None:
    backbone, moving = load_backbone(sd_editor_folder), load_backbone(sd_editor_folder)
    hook_networks(moving, torch.device("cpu"))
    x, t, pictures = torch.randn(1, 8, 8, 8), torch.tensor(500), torch.rand(1, 3, 32, 32)
    for _ in range(2):
        assert torch.equal(moving.encode_condition(pictures), backbone.encode_condition(pictures))
        text = moving.encode_text(["night"])
        assert torch.equal(moving.predict(x, t, text), backbone.predict(x, t, text))
        assert torch.equal(moving.decode(x[:, :4]), backbone.decode(x[:, :4]))
    assert moving.device == torch.device("cpu")


def test_large_pictures_are_decoded_in_tiles(sd_editor_folder: Path) -> None:
    backbone = load_backbone(sd_editor_folder)
    latents = torch.randn(1, 4, 16, 16)  # the tiny autoencoder's tiles are 8 x 8
    whole = backbone.decode(latents)
    tile(backbone)
    tiled = backbone.decode(latents)
    assert tiled.shape == whole.shape and not torch.equal(tiled, whole)
