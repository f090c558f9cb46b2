"""Networks of other libraries are loaded without a word, and whole."""

import logging
import subprocess
import sys
import warnings
from pathlib import Path

import diffusers
import pytest
import transformers
from diffusers import AutoencoderTiny
from safetensors.torch import load_file, save_file

from ip2p.models.loading import load_whole, quiet, refuse_missing


def test_no_network_lacks_weights(tmp_path: Path) -> None:
    """The libraries would put random ones in their place."""
    AutoencoderTiny(
        encoder_block_out_channels=(4, 4), decoder_block_out_channels=(4, 4), num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    ).save_pretrained(tmp_path)  # fmt: skip
    assert isinstance(load_whole(AutoencoderTiny, tmp_path), AutoencoderTiny)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    lost = sorted(weights)[0]
    del weights[lost]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=f"the vae lacks the weight {lost}"):
        load_whole(AutoencoderTiny, tmp_path, what="the vae")
    refuse_missing([])
    with pytest.raises(ValueError, match="it lacks 2 weights, such as a"):
        refuse_missing(["b", "a"])


def test_libraries_are_quiet_for_a_while() -> None:
    logs = (diffusers.utils.logging, transformers.utils.logging)
    before = [(log.get_verbosity(), log.is_progress_bar_enabled()) for log in logs]
    with pytest.raises(KeyError), quiet():
        assert [(log.get_verbosity(), log.is_progress_bar_enabled()) for log in logs] == [(logging.CRITICAL, False)] * 2
        warnings.warn("`is_gradient_checkpointing` is deprecated", FutureWarning, stacklevel=1)
        raise KeyError
    assert [(log.get_verbosity(), log.is_progress_bar_enabled()) for log in logs] == before


def test_nobody_is_told_of_torchvision() -> None:
    program = "import ip2p.models.loading, diffusers; diffusers.StableDiffusionPipeline"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "torchvision" not in done.stderr
