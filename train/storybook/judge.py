"""Training of the judge on pictures that are clean, spoiled, reconstructed by the autoencoder, noisy or discolored."""

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
from ip2p.train.order import ShuffledOrder
from ip2p.train.storybook.spoil import clean_example, spoil_picture, stack_examples
from ip2p.train.storybook.world import World

RECONSTRUCTION_STRIDE = 8  # every eighth picture is reconstructed, since the autoencoder is slower than the judge
SHEET_SHAPE = (4, 6)


class JudgeTask:
    """Trains the judge to read attributes, including reserved values, and layout.

    Args:
        world: scenes of kind "judge", whose layouts do not follow from the attributes.
        edited: the same scenes after an edit, of kind "judge-edited".
        vae: finished autoencoder; None if there is none yet.
        device: device to train on.
        seed: seed of order, augmentation and initial weights.
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
        self.order = ShuffledOrder(len(world), seed)

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
        """Return a sheet of augmented pictures; each row is labeled with the reading of its first picture."""
        rows, columns = SHEET_SHAPE
        shown = range(rows * columns)
        pictures, _, _ = self._examples([number % len(self.world) for number in shown], shown)
        seen = self._seen(pictures, torch.Generator().manual_seed(0))
        reading = self.net(seen).reading()
        labels = [", ".join(reading.values(row * columns).values()) for row in range(rows)]
        images = to_images(seen)
        return contact_sheet([images[row * columns : (row + 1) * columns] for row in range(rows)], labels)

    def _examples(self, rows: Sequence[int], positions: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the pictures of these rows, some of them spoiled, with their targets."""
        pairs = zip(rows, positions, self.world.pictures(rows), self.edited.pictures(rows), strict=True)
        return stack_examples(
            [
                spoil_picture(
                    clean_example(picture, self.world.scenes[row]), self.world.scenes[row], other,
                    self.edited.scenes[row], random.Random(derive_seed(self.seed, "spoiled", str(position))),
                )
                for row, position, picture, other in pairs
            ]
        )  # fmt: skip

    def _seen(self, pictures: Float[Tensor, "b 3 h w"], rng: torch.Generator) -> Float[Tensor, "b 3 h w"]:
        x = pictures.to(self.device)
        if self.vae is not None:
            with torch.no_grad():
                x[::RECONSTRUCTION_STRIDE] = self.vae.decode(
                    self.vae.encode(x[::RECONSTRUCTION_STRIDE]).latents
                ).sample.float()
        return augment_pictures(x, rng)


def augment_pictures(x: Float[Tensor, "b 3 h w"], rng: torch.Generator) -> Float[Tensor, "b 3 h w"]:
    """Blur pictures slightly, change their brightness and color, and add noise; too weak to change the season.

    Args:
        x: pictures in [-1, 1], shape (b, 3, h, w).
        rng: random generator on the CPU.
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
