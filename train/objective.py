"""What the editor learns: the noise (or velocity) in the edited picture, given the original and the instruction.

Loss: mean squared error of the prediction at a uniform timestep (InstructPix2Pix, arXiv 2211.09800, section 3.2), where
the UNet reads the noised target beside the latent of the original, and each condition is dropped now and then so that
both guidance scales exist.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ip2p.diffusion.noise import ForwardProcess
from ip2p.seeding import randn


class Latents(NamedTuple):
    """A batch of pairs as the autoencoder gives them.

    condition: mode of the original, not scaled. mean, std: of the edited picture's posterior, scaled; std is zero for
    an autoencoder that has no posterior.
    """

    condition: Float[Tensor, "b c h w"]
    mean: Float[Tensor, "b c h w"]
    std: Float[Tensor, "b c h w"]


class TrainingBatch(NamedTuple):
    """What one evaluation of the loss reads.

    target: latent of the edited picture, sampled and scaled. condition: of the original, zero where it is dropped.
    tokens: of the instructions, of the empty prompt where it is dropped. noise, timesteps: of the forward process.
    """

    target: Float[Tensor, "b c h w"]
    condition: Float[Tensor, "b c h w"]
    tokens: Int[Tensor, "b n"]
    noise: Float[Tensor, "b c h w"]
    timesteps: Int[Tensor, " b"]


class Draws(NamedTuple):
    """All the randomness of a batch; row k comes from generator k alone."""

    uniform: Float[Tensor, " b"]
    timesteps: Int[Tensor, " b"]
    posterior: Float[Tensor, "b c h w"]
    noise: Float[Tensor, "b c h w"]


class Dropped(NamedTuple):
    """Which conditions each sample goes without."""

    text: Bool[Tensor, " b"]
    image: Bool[Tensor, " b"]


class EditingModel(nn.Module):
    """UNet and text encoder as one module: what trains, in one piece, so that it is wrapped and synchronised once.

    Args:
        unet: predicts from 2c channels: c noised, c of the original's latent.
        text_encoder: its last hidden state conditions the UNet; frozen unless its parameters want gradients.
    """

    def __init__(self, unet: nn.Module, text_encoder: nn.Module) -> None:
        super().__init__()
        self.unet = unet
        self.text_encoder = text_encoder
        self.trains_text = any(parameter.requires_grad for parameter in text_encoder.parameters())

    def forward(
        self,
        noised: Float[Tensor, "b c h w"],
        timesteps: Int[Tensor, " b"],
        condition: Float[Tensor, "b c h w"],
        tokens: Int[Tensor, "b n"],
    ) -> Float[Tensor, "b c h w"]:
        """The UNet's prediction, in the base model's prediction type."""
        with torch.set_grad_enabled(self.trains_text and torch.is_grad_enabled()):
            text = self.text_encoder(tokens)[0]
        prediction: Tensor = self.unet(
            torch.cat([noised, condition], dim=1), timesteps, encoder_hidden_states=text
        ).sample
        return prediction


def draw(generators: Sequence[torch.Generator], shape: tuple[int, int, int], timesteps: int) -> Draws:
    """Draw everything a batch needs, on the CPU.

    Args:
        generators: one for each sample.
        shape: of a latent, (c, h, w).
        timesteps: of the training schedule; t is uniform in 0 .. timesteps-1.
    """
    uniform = torch.cat([torch.rand(1, generator=generator) for generator in generators])
    steps = torch.cat([torch.randint(timesteps, (1,), generator=generator) for generator in generators])
    posterior, noise = (randn(shape, generators, torch.float32, torch.device("cpu")) for _ in range(2))
    return Draws(uniform, steps, posterior, noise)


def drop_conditions(uniform: Float[Tensor, " b"], drop: float) -> Dropped:
    """One draw decides about both conditions: text goes if r < 2p, the image if p <= r < 3p.

    So p of the samples lose the text only, p both, p the image only (the paper: p = 0.05).
    """
    return Dropped(text=uniform < 2 * drop, image=(uniform >= drop) & (uniform < 3 * drop))


def assemble(
    instructions: Sequence[str],
    latents: Latents,
    draws: Draws,
    *,
    drop: float,
    tokenize: Callable[[Sequence[str]], Int[Tensor, "b n"]],
) -> TrainingBatch:
    """Sample the target from its posterior and drop conditions: no text is the empty prompt, no image a zero latent.

    Args:
        instructions, latents: of the samples.
        draws: their randomness, on the CPU.
        drop: p of drop_conditions; 0 keeps everything.
        tokenize: texts to token ids.
    """
    device = latents.mean.device
    dropped = drop_conditions(draws.uniform, drop)
    texts = ["" if gone else text for text, gone in zip(instructions, dropped.text.tolist(), strict=True)]
    return TrainingBatch(
        target=latents.mean + latents.std * draws.posterior.to(device),
        condition=latents.condition * (~dropped.image).to(device)[:, None, None, None],
        tokens=tokenize(texts).to(device),
        noise=draws.noise.to(device),
        timesteps=draws.timesteps.to(device),
    )


def editing_loss(model: nn.Module, process: ForwardProcess, batch: TrainingBatch) -> Float[Tensor, " b"]:
    """Squared error of each sample's prediction, averaged over its latent, in fp32.

    Args:
        model: an EditingModel, possibly wrapped.
        process: forward process of the base model.
        batch: what it reads.
    """
    noised = process.add_noise(batch.target, batch.noise, batch.timesteps)
    prediction: Tensor = model(noised, batch.timesteps, batch.condition, batch.tokens)
    target = process.target(batch.target, batch.noise, batch.timesteps)
    return (prediction.float() - target).square().flatten(1).mean(dim=1)
