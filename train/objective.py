"""The training objective: predict the noise (or velocity) in the edited picture, given original and instruction.

The loss is the mean squared error of the prediction at a uniform timestep (InstructPix2Pix, arXiv 2211.09800, section
3.2). The UNet reads the noised latents of the edited picture and, as further channels, the latents of the original.
Each condition is dropped at random, as classifier-free guidance with two scales requires.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ip2p.diffusion.noise import ForwardProcess
from ip2p.seeding import randn
from ip2p.train.weighting import min_snr_weight


class Latents(NamedTuple):
    """Latents of a batch of pairs.

    Attributes:
        condition: mode of the posterior of the original pictures, not scaled, shape (b, c, h, w).
        mean, std: mean and standard deviation of the posterior of the edited pictures, scaled; std is zero for an
            autoencoder without a posterior.
    """

    condition: Float[Tensor, "b c h w"]
    mean: Float[Tensor, "b c h w"]
    std: Float[Tensor, "b c h w"]


class TrainingBatch(NamedTuple):
    """Inputs of one evaluation of the loss.

    Attributes:
        target: latents of the edited pictures, sampled from the posterior and scaled, shape (b, c, h, w).
        condition: latents of the originals, zero where the condition is dropped.
        tokens: token ids of the instructions, shape (b, n), or their embeddings, shape (b, n, d), under a frozen text
            encoder; those of the empty prompt where the condition is dropped.
        noise: noise of the forward process.
        timesteps: timesteps of the forward process, shape (b,).
        weight: weight of each latent pixel, of mean 1, see `ip2p.train.weighting`; None if all are equal.
    """

    target: Float[Tensor, "b c h w"]
    condition: Float[Tensor, "b c h w"]
    tokens: Int[Tensor, "b n"] | Float[Tensor, "b n d"]
    noise: Float[Tensor, "b c h w"]
    timesteps: Int[Tensor, " b"]
    weight: Float[Tensor, "b 1 h w"] | None = None


class Draws(NamedTuple):
    """All random numbers of a batch; row k comes from generator k alone.

    Attributes:
        uniform: numbers in [0, 1) that decide which conditions are dropped.
        timesteps: timesteps of the forward process.
        posterior: noise that samples the target from its posterior.
        noise: noise of the forward process.
    """

    uniform: Float[Tensor, " b"]
    timesteps: Int[Tensor, " b"]
    posterior: Float[Tensor, "b c h w"]
    noise: Float[Tensor, "b c h w"]


class Dropped(NamedTuple):
    """Masks of the samples whose text or image condition is dropped."""

    text: Bool[Tensor, " b"]
    image: Bool[Tensor, " b"]


class EditingModel(nn.Module):
    """UNet and text encoder as one module, so that accelerate wraps and synchronizes them once.

    Args:
        unet: UNet with 2c input channels: c of the noised latents and c of the original's latents.
        text_encoder: text encoder, whose last hidden state conditions the UNet; frozen unless its parameters require
            gradients.
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
        tokens: Int[Tensor, "b n"] | Float[Tensor, "b n d"],
    ) -> Float[Tensor, "b c h w"]:
        """Return the UNet's prediction, in the base model's prediction type, for token ids or their embeddings."""
        text = tokens
        if not tokens.is_floating_point():
            with torch.set_grad_enabled(self.trains_text and torch.is_grad_enabled()):
                text = self.text_encoder(tokens)[0]
        prediction: Tensor = self.unet(
            torch.cat([noised, condition], dim=1), timesteps, encoder_hidden_states=text
        ).sample
        return prediction


def draw_randomness(
    generators: Sequence[torch.Generator], shape: tuple[int, int, int], timesteps: int, *, noise_offset: float = 0.0
) -> Draws:
    """Draw all random numbers of a batch, on the CPU.

    With a noise offset s, the noise of a sample is e + s u, where u is normal too, but one number for each channel: so
    the model also learns to move the mean colour of a picture (N. Guttenberg, "Diffusion with Offset Noise", 2023,
    https://www.crosslabs.org/blog/diffusion-with-offset-noise).

    Args:
        generators: one random generator for each sample.
        shape: shape of the latents of one picture, (c, h, w).
        timesteps: number of timesteps of the noise schedule; t is uniform in 0 .. timesteps-1.
        noise_offset: s, >= 0; the article's is 0.1.
    """
    uniform = torch.cat([torch.rand(1, generator=generator) for generator in generators])
    steps = torch.cat([torch.randint(timesteps, (1,), generator=generator) for generator in generators])
    posterior, noise = (randn(shape, generators, torch.float32, torch.device("cpu")) for _ in range(2))
    if noise_offset:  # drawn last, so that all other numbers are as without
        noise = noise + noise_offset * randn((shape[0], 1, 1), generators, torch.float32, torch.device("cpu"))
    return Draws(uniform, steps, posterior, noise)


def drop_conditions(uniform: Float[Tensor, " b"], drop: float) -> Dropped:
    """Decide which conditions are dropped: the text if r < 2p, the image if p <= r < 3p.

    So a share p of the samples loses only the text, p both, and p only the image (paper, section 3.2.1: p = 0.05).

    Args:
        uniform: one random number r in [0, 1) for each sample.
        drop: share p, 0 to 1/3.
    """
    return Dropped(text=uniform < 2 * drop, image=(uniform >= drop) & (uniform < 3 * drop))


def make_training_batch(
    instructions: Sequence[str],
    latents: Latents,
    draws: Draws,
    *,
    drop: float,
    tokenize: Callable[[Sequence[str]], Tensor],
) -> TrainingBatch:
    """Sample the targets from their posterior and drop conditions: a text becomes the empty prompt, an image zero.

    Args:
        instructions: instruction of each sample.
        latents: latents of the samples.
        draws: random numbers of the samples, on the CPU.
        drop: share p of `drop_conditions`; 0 drops nothing.
        tokenize: function that turns texts into token ids, or into embeddings.
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


def editing_loss(
    model: nn.Module, process: ForwardProcess, batch: TrainingBatch, *, min_snr_gamma: float | None = None
) -> Float[Tensor, " b"]:
    """Return the mean squared error of each sample's prediction, in fp32, weighted if the batch or a gamma says so.

    Args:
        model: an EditingModel, possibly wrapped by accelerate.
        process: forward process of the base model.
        batch: inputs of the loss.
        min_snr_gamma: gamma of `min_snr_weight`; None weights all timesteps equally, as the paper does.
    """
    noised = process.add_noise(batch.target, batch.noise, batch.timesteps)
    prediction: Tensor = model(noised, batch.timesteps, batch.condition, batch.tokens)
    target = process.target(batch.target, batch.noise, batch.timesteps)
    errors = (prediction.float() - target).square()
    if batch.weight is not None:
        errors = errors * batch.weight
    losses = errors.flatten(1).mean(dim=1)
    if min_snr_gamma is None:
        return losses
    kind, alphas = str(process.prediction_type), process.scheduler.alphas_cumprod
    return losses * min_snr_weight(alphas, batch.timesteps, gamma=min_snr_gamma, prediction_type=kind)
