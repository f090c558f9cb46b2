"""Noise schedules and prediction types that differ from the base model's."""

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, PNDMScheduler

from ip2p.diffusion.noise import ForwardProcess
from ip2p.diffusion.sampling import make_scheduler
from ip2p.errors import ConfigError
from ip2p.train.noise_schedule import suit_scheduler

SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def pndm() -> Any:
    return PNDMScheduler(skip_prk_steps=True, steps_offset=1, set_alpha_to_one=False, **SCHEDULE)


def test_nothing_asked_is_the_base_models_own_scheduler() -> None:
    own = pndm()
    assert suit_scheduler(own, prediction_type="base", zero_terminal_snr=False) is own
    assert suit_scheduler(own, prediction_type="epsilon", zero_terminal_snr=False) is own


@pytest.mark.parametrize("own", [pndm(), EulerDiscreteScheduler(**SCHEDULE)], ids=["pndm", "euler"])
def test_zero_terminal_snr_is_algorithm_1(own: Any) -> None:
    suited = suit_scheduler(own, prediction_type="v_prediction", zero_terminal_snr=True)
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    root = np.sqrt(np.cumprod(1 - betas))
    rescaled = (root - root[-1]) * root[0] / (root[0] - root[-1])
    process = ForwardProcess(suited)
    assert process.prediction_type == "v_prediction"
    np.testing.assert_allclose(process.scheduler.alphas_cumprod.numpy(), rescaled**2, atol=2e-6)
    clean, noise, last = torch.randn(1, 4, 2, 2), torch.randn(1, 4, 2, 2), torch.tensor([999])
    assert torch.equal(process.add_noise(clean, noise, last), noise)
    torch.testing.assert_close(process.target(clean, noise, last), -clean)


def test_the_saved_scheduler_says_it_and_sampling_begins_at_the_last_timestep() -> None:
    suited = suit_scheduler(pndm(), prediction_type="v_prediction", zero_terminal_snr=True)
    saved = type(suited).from_config(dict(suited.config))
    assert saved.config["rescale_betas_zero_snr"] and saved.config["timestep_spacing"] == "trailing"
    assert not saved.config["clip_sample"]
    for name in ("euler_a", "ddim"):
        sampler = make_scheduler(saved, name)
        sampler.set_timesteps(10)
        assert sampler.timesteps[0] == 999 and sampler.config["prediction_type"] == "v_prediction"


def test_another_prediction_type_keeps_the_class() -> None:
    suited = suit_scheduler(pndm(), prediction_type="v_prediction", zero_terminal_snr=False)
    assert type(suited) is PNDMScheduler and suited.config["prediction_type"] == "v_prediction"


def test_epsilon_with_zero_terminal_snr_is_refused() -> None:
    with pytest.raises(ConfigError, match="Give prediction_type=v_prediction"):
        suit_scheduler(pndm(), prediction_type="base", zero_terminal_snr=True)
    zero = DDIMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True, **SCHEDULE)
    with pytest.raises(ConfigError, match="pure noise"):
        suit_scheduler(zero, prediction_type="epsilon", zero_terminal_snr=False)
