"""Training of the judge: pictures as drawn, spoiled, as the autoencoder gives them back, noisy, off in colour."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from ip2p.pictures.contact_sheet import contact_sheet
from ip2p.pictures.tensors import to_images
from ip2p.seeding import derive_seed, generator
from ip2p.storybook.judge import Judge, JudgeNet, judge_loss, layout_target
from ip2p.train.batches import Order
from ip2p.train.storybook.mush import clean, spoiled, stacked
from ip2p.train.storybook.world import World

RECONSTRUCTED = 8  # every eighth picture has been through the autoencoder, which takes longer than to judge it
SHEET = (4, 6)


class JudgeTask:
    """Reads attributes and layout of the whole vocabulary, the reserved values too.

    Args:
        world: of kind "judge", whose layouts do not follow from the attributes.
        edited: as many of kind "judge-edited", the same scenes after an edit.
        vae: the finished autoencoder; None while there is none.
        device: to train on.
        seed: of order, augmentation and first weights.
    """

    name = "judge"
    batch = 32
    learning_rate = 2e-3
    weight_decay = 0.02
    ema_decay = 0.998

    def __init__(self, world: World, edited: World, vae: Any, device: torch.device, seed: int) -> None:
        assert len(world) == len(edited), f"{len(world)} scenes, {len(edited)} edited"
        torch.manual_seed(seed)
        self.net = JudgeNet().to(device)
        self.modules: dict[str, nn.Module] = {"net": self.net}
        self.settings: Mapping[str, Any] = {"task": self.name, "seed": seed, "scenes": len(world)}
        self.world, self.edited, self.vae, self.device, self.seed = world, edited, vae, device, seed
        self.layouts = torch.tensor([layout_target(scene.layout) for scene in world.scenes], device=device)
        self.order = Order(len(world), seed)

    def load(self, bundled: Path) -> None:
        """See Task."""
        self.net.load_state_dict(Judge.from_pretrained(bundled / "judge").net.state_dict())

    def loss(self, positions: Sequence[int]) -> Tensor:
        """See Task."""
        rows = [self.order.row(position) for position in positions]
        pictures, attributes, whole = self._examples(rows, positions)
        seen = self._seen(pictures, generator(self.seed, self.name, str(positions[0])))
        return judge_loss(self.net(seen), attributes.to(self.device), whole.to(self.device), self.layouts[rows])

    def sheet(self) -> Image.Image:
        """Augmented pictures, each row with what is read from its first."""
        rows, columns = SHEET
        shown = range(rows * columns)
        pictures, _, _ = self._examples([number % len(self.world) for number in shown], shown)
        seen = self._seen(pictures, torch.Generator().manual_seed(0))
        reading = self.net(seen).reading()
        labels = [", ".join(reading.values(row * columns).values()) for row in range(rows)]
        images = to_images(seen)
        return contact_sheet([images[row * columns : (row + 1) * columns] for row in range(rows)], labels)

    def _examples(self, rows: Sequence[int], positions: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures of these rows, some of them spoiled, and what should be read from them."""
        pairs = zip(rows, positions, self.world.pictures(rows), self.edited.pictures(rows), strict=True)
        return stacked(
            [
                spoiled(
                    clean(picture, self.world.scenes[row]), self.world.scenes[row], other, self.edited.scenes[row],
                    random.Random(derive_seed(self.seed, "spoiled", str(position))),
                )
                for row, position, picture, other in pairs
            ]
        )  # fmt: skip

    def _seen(self, pictures: Float[Tensor, "b 3 h w"], rng: torch.Generator) -> Float[Tensor, "b 3 h w"]:
        x = pictures.to(self.device)
        if self.vae is not None:
            with torch.no_grad():
                x[::RECONSTRUCTED] = self.vae.decode(self.vae.encode(x[::RECONSTRUCTED]).latents).sample.float()
        return augmented(x, rng)


def augmented(x: Float[Tensor, "b 3 h w"], rng: torch.Generator) -> Float[Tensor, "b 3 h w"]:
    """Each picture a little blurred, off in light and colour, noisy; too weak to turn one season into another.

    Args:
        x: in [-1, 1].
        rng: of all randomness, on the CPU.
    """
    count = len(x)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return (low + (high - low) * torch.rand((count, *shape), generator=rng)).to(x.device)

    soft = F.interpolate(F.avg_pool2d(x, 2), scale_factor=2.0, mode="bilinear", align_corners=False)
    blur = uniform(-0.6, 0.8, 1, 1, 1).clamp_min(0)  # three pictures in seven stay sharp
    x = x + blur * (soft - x)
    x = x * uniform(0.94, 1.06, 1, 1, 1) + uniform(-0.04, 0.04, 3, 1, 1)
    noise = torch.randn(x.shape, generator=rng).to(x.device)
    return (x + uniform(-0.05, 0.1, 1, 1, 1).clamp_min(0) * noise).clamp(-1, 1)
