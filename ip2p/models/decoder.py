"""A small decoder in place of a model's own: pictures in a fraction of the time, with less fine detail.

`madebyollin/taesd` takes a twentieth of the work of Stable Diffusion's decoder; any AutoencoderTiny trained on the same
latents can be used. Only decoding changes: pictures are still encoded by the model's own encoder.
"""

from pathlib import Path
from typing import Any

from diffusers import AutoencoderTiny
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from ip2p.errors import ModelError, one_line
from ip2p.models.backbone import Backbone
from ip2p.models.folder import fetch
from ip2p.models.folder_checks import read_object, require_network
from ip2p.models.loading import explain, load_whole

CONFIG_FILE = "config.json"
WEIGHTS = "diffusion_pytorch_model"
DECODER_FILES = [CONFIG_FILE, f"{WEIGHTS}.safetensors"]
DECODER_HINT = "Give a folder with an AutoencoderTiny, or a hub id such as madebyollin/taesd (taesdxl for SDXL)"


def replace_decoder(backbone: Backbone, name: str) -> None:
    """Replace the decoder of a backbone in place, see `load_decoder`."""
    backbone.decoder = load_decoder(backbone, name)


def load_decoder(backbone: Backbone, name: str) -> Any:
    """Load a decoder for the latents of a backbone.

    Args:
        backbone: model whose latents it is to decode.
        name: folder or hub id of an AutoencoderTiny.

    Raises:
        ModelError: the decoder is missing, damaged, of another class, or for other latents.
    """
    folder, what = Path(name), f"the decoder {name}"
    try:
        folder = folder if folder.exists() else fetch(name, DECODER_FILES)
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        raise ModelError(f"there is no decoder {name} ({one_line(error)})", DECODER_HINT) from error
    if not (folder / CONFIG_FILE).is_file():
        raise ModelError(f"there is no decoder {name}: it has no {CONFIG_FILE}", DECODER_HINT)
    with explain(what, DECODER_HINT):
        kind = read_object(folder / CONFIG_FILE, what).get("_class_name")
        if kind != "AutoencoderTiny":
            raise ModelError(f"the decoder {name} is of the class {kind}, not AutoencoderTiny", DECODER_HINT)
        require_network(folder, what, file=WEIGHTS, pickle_file=f"{WEIGHTS}.bin")
        decoder: Any = load_whole(AutoencoderTiny, folder, torch_dtype=backbone.dtype)
    config = decoder.config
    got = config.latent_channels, 2 ** (len(config.decoder_block_out_channels) - 1)
    expected = backbone.latent_channels, backbone.downscale
    if got != expected:
        raise ModelError(
            f"the decoder {name} is for latents of {got[0]} channels and 1/{got[1]} of the size, not {expected[0]} and "
            f"1/{expected[1]}",
            "Give one that was trained on the latents of the model's own autoencoder",
        )
    return decoder.to(backbone.device).eval().requires_grad_(False)
