"""The storybook autoencoder: pictures of 256 px to latents of 4 channels and 32 x 32, and back."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from ip2p.models.loading import load_whole
from ip2p.pictures.contact_sheet import contact_sheet
from ip2p.pictures.tensors import to_images
from ip2p.seeding import generator
from ip2p.shards import atomic_dir
from ip2p.train.order import ShuffledOrder
from ip2p.train.storybook.world import World

CROP_SIDE = 128
LATENT_PIXEL = 8
LATENT_NOISE = 0.03
SHEET_ROWS = 6
EDGE_WEIGHT = 1.0  # weight of the edge strength in the loss
DECODER_WIDTH, DECODER_BLOCKS = 48, (6, 4, 2, 1)  # size of the decoder when only it is trained
DECODER_EDGE_WEIGHT = 2.0  # weight of the edge strength then
MSE_WEIGHT = 2.0  # weight of the squared error then
NORMALIZATION_PICTURES = 400  # pictures from which mean and standard deviation of the latents are computed


class _CropTask:
    """Training of the autoencoder on random crops of the world's pictures."""

    name: str
    vae: Any
    batch = 8
    weight_decay = 0.0
    ema_decay = 0.995

    def __init__(self, world: World, device: torch.device, seed: int) -> None:
        self.world, self.device, self.seed = world, device, seed
        self.order = ShuffledOrder(len(world), seed)

    def load(self, bundled: Path) -> None:
        """See Task."""
        self.vae.load_state_dict(load_autoencoder(bundled / "base" / "vae").state_dict())

    def crops(self, positions: Sequence[int]) -> tuple[Tensor, torch.Generator]:
        """Return the crops at these positions, shape (b, 3, i, j), and the generator that they were drawn by."""
        rng = generator(self.seed, self.name, str(positions[0]))
        crops = random_crops(self.world.pictures([self.order.row(each) for each in positions]), rng).to(self.device)
        return crops, rng

    def sheet(self) -> Image.Image:
        """Return a sheet of pictures and their reconstructions."""
        return reconstructions(self.vae, self.world, self.device)


class AutoencoderTask(_CropTask):
    """Trains the autoencoder to reconstruct random crops, see `reconstruction_loss`.

    Noise on the latents makes close latents decode to similar pictures. Mean and standard deviation of each channel are
    pulled to 0 and 1, as diffusion needs them.

    Args:
        world: training pictures.
        device: device to train on.
        seed: seed of order, crops, noise and initial weights.
    """

    name = "autoencoder"
    learning_rate = 2e-3

    def __init__(self, world: World, device: torch.device, seed: int) -> None:
        torch.manual_seed(seed)
        self.vae = make_autoencoder().to(device)
        self.modules: dict[str, nn.Module] = {"vae": self.vae}
        self.settings: Mapping[str, Any] = {
            "task": self.name,
            "seed": seed,
            "scenes": len(world),
            "width": self.vae.config.block_out_channels[0],
        }
        super().__init__(world, device, seed)

    def loss(self, positions: Sequence[int]) -> Tensor:
        """See Task."""
        crops, rng = self.crops(positions)
        latents = self.vae.encode(crops).latents.float()
        noise = torch.randn(latents.shape, generator=rng).to(self.device)
        decoded = self.vae.decode(latents + LATENT_NOISE * noise).sample.float()
        return reconstruction_loss(decoded, crops) + 0.01 * spread_loss(latents)


class DecoderTask(_CropTask):
    """Trains a larger decoder with a frozen encoder, so that the latents stay the same for models trained on them.

    It begins as `grow_decoder` makes it; its block at full resolution draws sharper edges. The loss is that of the
    autoencoder, with more weight on the edges, plus the squared error, which PSNR measures.

    Args:
        world: training pictures.
        vae: finished autoencoder.
        device: device to train on.
        seed: seed of order and crops.
    """

    name = "decoder"
    learning_rate = 1e-3

    def __init__(self, world: World, vae: Any, device: torch.device, seed: int) -> None:
        torch.manual_seed(seed)
        self.vae = grow_decoder(vae).to(device)
        self.modules: dict[str, nn.Module] = {"decoder": self.vae.decoder.requires_grad_(True)}
        self.settings: Mapping[str, Any] = {
            "task": self.name,
            "seed": seed,
            "scenes": len(world),
            "width": DECODER_WIDTH,
            "blocks": list(DECODER_BLOCKS),
        }
        super().__init__(world, device, seed)

    def load(self, bundled: Path) -> None:
        """See Task."""
        self.vae.load_state_dict(grow_decoder(load_autoencoder(bundled / "base" / "vae")).state_dict())

    def loss(self, positions: Sequence[int]) -> Tensor:
        """See Task."""
        crops, _ = self.crops(positions)
        with torch.no_grad():
            latents = self.vae.encode(crops).latents
        decoded = self.vae.decode(latents).sample.float()
        loss = reconstruction_loss(decoded, crops, edge_weight=DECODER_EDGE_WEIGHT)
        return MSE_WEIGHT * F.mse_loss(decoded, crops) + loss


def random_crops(pictures: Float[Tensor, "b 3 h w"], rng: torch.Generator) -> Float[Tensor, "b 3 i j"]:
    """Crop a random square of CROP_SIDE pixels from each picture, aligned with the latent pixels."""
    places = (
        torch.randint((pictures.shape[-1] - CROP_SIDE) // LATENT_PIXEL + 1, (len(pictures), 2), generator=rng)
        * LATENT_PIXEL
    )
    crops = [
        picture[:, y : y + CROP_SIDE, x : x + CROP_SIDE]
        for picture, (y, x) in zip(pictures, places.tolist(), strict=True)
    ]
    return torch.stack(crops).contiguous(memory_format=torch.channels_last)


def make_autoencoder() -> Any:
    """Make a small AutoencoderTiny with random weights; it downsamples by 8 and has few blocks at high resolution."""
    width = (32,) * 4
    vae: Any = AutoencoderTiny(
        encoder_block_out_channels=width, decoder_block_out_channels=width, num_encoder_blocks=(0, 1, 2, 4),
        num_decoder_blocks=(4, 2, 1, 0),
    )  # fmt: skip
    return vae.to(memory_format=torch.channels_last)


def grow_decoder(vae: Any) -> Any:
    """Return the autoencoder with a decoder of DECODER_WIDTH and DECODER_BLOCKS that begins with what it knows.

    As in Net2Net (arXiv 1511.05641): the channels that are there already keep their weights and read nothing from those
    that are added, and each added residual block adds zero, so that it decodes to the same pictures. Both learn to be
    of use. The first block at a resolution that had none is no such block: its ReLU cuts what is negative there, which
    takes about a minute to learn again.

    Args:
        vae: autoencoder with at most as many channels and blocks.
    """
    config = dict(vae.config, decoder_block_out_channels=(DECODER_WIDTH,) * 4, num_decoder_blocks=DECODER_BLOCKS)
    config.pop("block_out_channels", None)  # written by the class, which does not take it
    grown: Any = AutoencoderTiny.from_config(config)
    grown.encoder.load_state_dict(vae.encoder.state_dict())
    old, new = _resolutions(vae.decoder), _resolutions(grown.decoder)
    for old_layers, new_layers in zip(old, new, strict=True):
        for position, layer in enumerate(new_layers):
            if position < len(old_layers):
                for source, target in zip(_convolutions(old_layers[position]), _convolutions(layer), strict=True):
                    _copy_channels(source, target)
            else:
                for each in _convolutions(layer)[-1].parameters():
                    nn.init.zeros_(each)
    return grown.train(vae.training).to(memory_format=torch.channels_last)


def _resolutions(decoder: nn.Module) -> list[list[nn.Module]]:
    """List a decoder's layers that have weights, in one list for each resolution, the convolution before it first."""
    found: list[list[nn.Module]] = [[]]
    for layer in decoder.layers:  # type: ignore[union-attr]
        if isinstance(layer, nn.Upsample):
            found.append([])
        elif _convolutions(layer):
            found[-1].append(layer)
    last = found[-1].pop()  # the convolution to colors comes after all blocks, and is a resolution by itself here
    return [*found, [last]]


def _convolutions(layer: nn.Module) -> list[nn.Conv2d]:
    return [each for each in layer.modules() if isinstance(each, nn.Conv2d)]


@torch.no_grad()
def _copy_channels(source: nn.Conv2d, target: nn.Conv2d) -> None:
    """Copy a convolution into the first channels of a larger one, which then read nothing from the other channels."""
    outputs, inputs = source.weight.shape[:2]
    target.weight[:outputs] = 0
    target.weight[:outputs, :inputs] = source.weight
    if source.bias is not None:
        assert target.bias is not None
        target.bias[:outputs] = source.bias


def reconstructions(vae: Any, world: World, device: torch.device) -> Image.Image:
    """Return a sheet of pictures, each beside its reconstruction."""
    pictures = world.pictures(range(3 * SHEET_ROWS)).to(device)
    back = to_images(vae.decode(vae.encode(pictures).latents).sample)
    both = [image for pair in zip(to_images(pictures), back, strict=True) for image in pair]
    return contact_sheet([both[start : start + SHEET_ROWS] for start in range(0, len(both), SHEET_ROWS)])


def reconstruction_loss(
    x: Float[Tensor, "b 3 h w"], target: Float[Tensor, "b 3 h w"], *, edge_weight: float = EDGE_WEIGHT
) -> Float[Tensor, ""]:
    """Compute the loss of a reconstruction: L1, L1 of the gradients, the worst patches, and the edge strength.

    The gradients are differences between neighboring pixels, and the worst patches are the tenth of 8 x 8 patches with
    the largest error. Unlike the other terms, the edge strength does not reward blurring an edge of uncertain position.

    Args:
        x: reconstructions in [-1, 1], shape (b, 3, h, w).
        target: pictures in [-1, 1], shape (b, 3, h, w).
        edge_weight: weight of the edge strength.
    """
    error = (x - target).abs()
    patches = F.avg_pool2d(error.mean(1, keepdim=True), LATENT_PIXEL).flatten()
    worst = patches.topk(max(1, len(patches) // 10)).values.mean()
    slopes = sum((x.diff(dim=axis) - target.diff(dim=axis)).abs().mean() for axis in (2, 3))
    strength = (edge_strength(x) - edge_strength(target)).abs().mean()
    return error.mean() + 0.5 * slopes + 0.3 * worst + edge_weight * strength


def edge_strength(x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 i j"]:
    """Return the mean absolute Laplacian over squares of 8 px that overlap by half."""
    return F.avg_pool2d(laplacian(x).abs(), LATENT_PIXEL, LATENT_PIXEL // 2)


def laplacian(x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 i j"]:
    """Return the Laplacian of each channel without the border: four neighbors minus four times the pixel."""
    around = x[..., :-2, 1:-1] + x[..., 2:, 1:-1] + x[..., 1:-1, :-2] + x[..., 1:-1, 2:]
    return around - 4 * x[..., 1:-1, 1:-1]


def spread_loss(latents: Float[Tensor, "b c h w"]) -> Float[Tensor, ""]:
    """Return the squared distance of each channel's mean and standard deviation from 0 and 1, averaged."""
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    return mean.square().mean() + (std - 1).square().mean()


@torch.no_grad()
def normalize_latents(vae: Any, latents: Float[Tensor, "n c h w"]) -> None:
    """Fold mean and standard deviation of latents into the encoder's last and the decoder's first convolution.

    Afterwards latents have mean 0 and standard deviation 1, so the saved model needs no scaling factor. The decoder
    first squashes its input by 3 tanh(z / 3), which changes hardly anything for a standard deviation near 1.

    Args:
        vae: autoencoder, changed in place.
        latents: latents of many pictures, shape (n, c, h, w).
    """
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    last, first = vae.encoder.layers[-1], vae.decoder.layers[0]
    last.weight /= std[:, None, None, None]
    last.bias.copy_((last.bias - mean) / std)
    kernel = first.weight.clone()
    first.weight.copy_(kernel * std[None, :, None, None])
    first.bias += (kernel * mean[None, :, None, None]).sum((1, 2, 3))


def finish_autoencoder(task: AutoencoderTask, folder: Path) -> None:
    """Write the finished autoencoder with normalized latents, in fp32, for the training of the other models."""
    vae = copy.deepcopy(task.vae).eval()
    pictures = task.world.pictures(range(min(NORMALIZATION_PICTURES, len(task.world)))).split(50)
    with torch.inference_mode():
        chunks = [vae.encode(rows.to(task.device)).latents for rows in pictures]
    normalize_latents(vae, torch.cat(chunks))
    save_autoencoder(vae, folder)


def save_autoencoder(vae: Any, folder: Path) -> None:
    """Write an autoencoder as a diffusers folder, atomically."""
    with atomic_dir(folder) as work:
        vae.save_pretrained(work)


def load_autoencoder(folder: Path) -> Any:
    """Load the finished autoencoder for inference; None if the folder has none."""
    if not (folder / "config.json").is_file():
        return None
    vae: Any = load_whole(AutoencoderTiny, folder)
    return vae.eval().requires_grad_(False).to(memory_format=torch.channels_last)
