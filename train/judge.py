"""Training of the judge: pictures as drawn, as the autoencoder gives them back, noisy, blurred, off in colour."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from ip2p.pictures.contact_sheet import contact_sheet
from ip2p.pictures.tensors import to_images
from ip2p.seeding import generator
from ip2p.storybook.judge import JudgeNet, attribute_target, judge_loss, layout_target
from ip2p.storybook.scene import ATTRIBUTES
from ip2p.train.batches import Order
from ip2p.train.world import World

RECONSTRUCTED = 3  # every third picture has been through the autoencoder
SHEET = (4, 6)


class JudgeTask:
    """Reads attributes and layout of the whole vocabulary, the reserved values too.

    Args:
        world: of kind "judge", whose layouts do not follow from the attributes.
        vae: the finished autoencoder; None while there is none.
        device: to train on.
        seed: of order, augmentation and first weights.
    """

    name = "judge"
    batch = 48
    learning_rate = 2e-3
    weight_decay = 0.02
    ema_decay = 0.998

    def __init__(self, world: World, vae: Any, device: torch.device, seed: int) -> None:
        torch.manual_seed(seed)
        self.net = JudgeNet().to(device)
        self.modules: dict[str, nn.Module] = {"net": self.net}
        self.settings: Mapping[str, Any] = {"task": self.name, "seed": seed, "scenes": len(world)}
        self.world, self.vae, self.device, self.seed = world, vae, device, seed
        self.attributes = torch.tensor([attribute_target(scene) for scene in world.scenes], device=device)
        self.layouts = torch.tensor([layout_target(scene.layout) for scene in world.scenes], device=device)
        self.order = Order(len(world), seed)

    def loss(self, positions: Sequence[int]) -> Tensor:
        """See Task."""
        rows = [self.order.row(position) for position in positions]
        rng = generator(self.seed, self.name, str(positions[0]))
        seen = self._seen(self.world.pictures(rows), rng)
        return judge_loss(self.net(seen), self.attributes[rows], self.layouts[rows])

    def sheet(self) -> Image.Image:
        """Augmented pictures, each row with what is read from its first."""
        rows, columns = SHEET
        seen = self._seen(self.world.pictures(range(rows * columns)), torch.Generator().manual_seed(0))
        reading = self.net(seen).reading().attributes
        labels = [
            ", ".join(ATTRIBUTES[name][int(values[row * columns])] for name, values in reading.items())
            for row in range(rows)
        ]
        images = to_images(seen)
        return contact_sheet([images[row * columns : (row + 1) * columns] for row in range(rows)], labels)

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
