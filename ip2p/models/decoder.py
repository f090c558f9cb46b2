"""A small decoder in place of a model's own: pictures in a fraction of the time, with less fine detail.

`madebyollin/taesd` takes a twentieth of the work of Stable Diffusion's decoder; any AutoencoderTiny trained on the same
latents can be used. Only decoding changes: pictures are still encoded by the model's own encoder.
"""

import json
from pathlib import Path
from typing import Any

from diffusers import AutoencoderTiny
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from safetensors import SafetensorError

from ip2p.errors import ModelError, one_line
from ip2p.models.backbone import Backbone
from ip2p.models.folder import fetch
from ip2p.models.loading import DAMAGED_HINT, load_whole

CONFIG_FILE = "config.json"
DECODER_FILES = [CONFIG_FILE, "diffusion_pytorch_model.safetensors"]
DECODER_HINT = "Give a folder with an AutoencoderTiny, or a hub id such as madebyollin/taesd (taesdxl for SDXL)"


def replace_decoder(backbone: Backbone, name: str) -> None:
    """Replace the decoder of a backbone.

    Args:
        backbone: model to change in place.
        name: folder or hub id of an AutoencoderTiny.

    Raises:
        ModelError: the decoder is missing, damaged, of another class, or for other latents.
    """
    folder = Path(name)
    try:
        if not folder.exists():
            folder = fetch(name, DECODER_FILES)
        kind = json.loads((folder / CONFIG_FILE).read_text()).get("_class_name")
        if kind != "AutoencoderTiny":
            raise ModelError(f"the decoder {name} is of the class {kind}, not AutoencoderTiny", DECODER_HINT)
        decoder: Any = load_whole(AutoencoderTiny, folder, torch_dtype=backbone.dtype)
    except (FileNotFoundError, NotADirectoryError, HfHubHTTPError, HFValidationError, json.JSONDecodeError) as error:
        raise ModelError(f"there is no decoder {name} ({one_line(error)})", DECODER_HINT) from error
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise ModelError(f"cannot load the decoder {name} ({one_line(error)})", DAMAGED_HINT) from error
    config = decoder.config
    got = config.latent_channels, 2 ** (len(config.decoder_block_out_channels) - 1)
    expected = backbone.latent_channels, backbone.downscale
    if got != expected:
        raise ModelError(
            f"the decoder {name} is for latents of {got[0]} channels and 1/{got[1]} of the size, not {expected[0]} and "
            f"1/{expected[1]}",
            "Give one that was trained on the latents of the model's own autoencoder",
        )
    backbone.decoder = decoder.to(backbone.device).eval().requires_grad_(False)
    backbone.decoder_name = name
