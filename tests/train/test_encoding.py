"""Pictures of pairs -> latents: each of a batch is encoded once, and stands where it belongs."""

from pathlib import Path

import pytest
import torch

from ip2p.models.backbone import Backbone, load_backbone
from ip2p.train.encoding import encode_pairs


def test_equal_pictures_are_encoded_once(tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = load_backbone(tiny_base)
    before, after, other = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    encoded = 0
    posterior = Backbone.target_posterior

    def count(self: Backbone, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        nonlocal encoded
        encoded += len(x)
        return posterior(self, x)

    monkeypatch.setattr(Backbone, "target_posterior", count)
    pairs = torch.stack([before, after, before, other]), torch.stack([after, before, other, other])
    together = encode_pairs(backbone, *pairs)
    assert encoded == 3

    for row in range(4):
        alone = encode_pairs(backbone, pairs[0][row : row + 1], pairs[1][row : row + 1])
        for one, all_of_them in zip(alone, together, strict=True):
            torch.testing.assert_close(one[0], all_of_them[row], rtol=1e-4, atol=1e-5)
