"""Weights of the loss: by the noise level of a sample, and by what an edit changes in the picture."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def min_snr_weight(
    alphas: Float[Tensor, " t"], timesteps: Int[Tensor, " b"], *, gamma: float, prediction_type: str
) -> Float[Tensor, " b"]:
    """Return the min-SNR weight of each sample, so that timesteps with little noise do not dominate.

    With SNR = a / (1 - a) at the sample's timestep, the error of the clean latents has the weight min(SNR, gamma)
    (Hang et al., arXiv 2303.09556, section 3.4). In terms of what is predicted this is

        epsilon: min(SNR, gamma) / SNR      v: min(SNR, gamma) / (SNR + 1)      sample: min(SNR, gamma).

    Args:
        alphas: cumulative products a of 1 - beta, for each timestep of the noise schedule.
        timesteps: timestep of each sample.
        gamma: largest weight, > 0; the paper's is 5.
        prediction_type: epsilon, v_prediction or sample.
    """
    a = alphas.to(device=timesteps.device, dtype=torch.float32)[timesteps]
    if prediction_type == "v_prediction":  # min(SNR, gamma) / (SNR + 1), written so that a = 1 is no division by zero
        return torch.minimum(a, gamma * (1 - a))
    if prediction_type == "epsilon":
        return torch.minimum(torch.ones_like(a), gamma * (1 - a) / a)
    return torch.minimum(a / (1 - a), torch.full_like(a, gamma))


def changed_share(
    condition: Float[Tensor, "b c h w"], edited: Float[Tensor, "b c h w"], *, scale: float, shift: float
) -> Float[Tensor, "b 1 h w"]:
    """Return how much an edit changes each latent pixel, as a share of the most that it changes one, 0 to 1.

    With z = (condition - shift) * scale, the original's latents as the edited picture's are scaled,

        d = mean over channels of |edited - z|,     m = d / max of d over the picture;

    m is 0 everywhere where the two pictures are equal.

    Args:
        condition: latents of the originals, not scaled, none of them dropped.
        edited: means of the latents of the edited pictures, scaled.
        scale, shift: those of the autoencoder.
    """
    difference = (edited - (condition - shift) * scale).abs().mean(dim=1, keepdim=True)
    peak = difference.amax(dim=(2, 3), keepdim=True)
    return difference / peak.clamp_min(torch.finfo(difference.dtype).tiny)


def pixel_weight(changed: Float[Tensor, "b 1 h w"], extra: float) -> Float[Tensor, "b 1 h w"]:
    """Return the weight of each latent pixel in the loss of its sample: w = (1 + extra * m) / mean of (1 + extra * m).

    The mean of w over a picture is 1, so that a large edit does not count more than a small one, and the learning rate
    means the same as without. It is the weighting of regions that inpainting and subject-driven training use (as in
    "masked loss" of LoRA trainers), softened so that pixels which have to stay keep their weight in the loss.

    Args:
        changed: how much of a latent pixel is changed, m, 0 to 1.
        extra: extra weight of a pixel that is wholly changed, >= 0.
    """
    weight = 1 + extra * changed
    return weight / weight.mean(dim=(2, 3), keepdim=True)
