"""Another autoencoder in place of a model's own, or a small decoder: pictures in a fraction of the time.

An autoencoder is often fine-tuned without the rest of a model, such as `stabilityai/sd-vae-ft-mse` on the same latents.
`madebyollin/taesd` takes a twentieth of the work of Stable Diffusion's decoder; any AutoencoderTiny trained on the same
latents can be used. Only decoding changes: pictures are still encoded by the model's own encoder.
"""

from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, AutoencoderTiny
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from ip2p.errors import ModelError, reason
from ip2p.models.backbone import Backbone
from ip2p.models.folder import fetch
from ip2p.models.folder_checks import read_object, require_network
from ip2p.models.loading import explain, load_whole

CONFIG_FILE = "config.json"
WEIGHTS = "diffusion_pytorch_model"
AUTOENCODER_FILES = [CONFIG_FILE, f"{WEIGHTS}.safetensors"]
DECODER_HINT = "Give a folder with an AutoencoderTiny, or a hub id such as madebyollin/taesd (taesdxl for SDXL)"
AUTOENCODER_HINT = "Give a folder with an AutoencoderKL, or a hub id such as stabilityai/sd-vae-ft-mse"


def replace_decoder(backbone: Backbone, name: str) -> None:
    """Replace the decoder of a backbone in place, see `load_decoder`."""
    backbone.decoder = load_decoder(backbone, name)


def replace_autoencoder(backbone: Backbone, name: str) -> None:
    """Replace the autoencoder of a backbone in place.

    Args:
        backbone: model whose latents it is to encode and decode.
        name: folder or hub id of an AutoencoderKL.

    Raises:
        ModelError: the autoencoder is missing, damaged, of another class, or for other latents.
    """
    backbone.vae = _load(backbone, name, AutoencoderKL, f"the autoencoder {name}", AUTOENCODER_HINT)
    if backbone.is_xl and backbone.vae.config.force_upcast:  # as in load_backbone
        backbone.vae.float()
    backbone.require("any")


def load_decoder(backbone: Backbone, name: str) -> Any:
    """Load a decoder for the latents of a backbone.

    Args:
        backbone: model whose latents it is to decode.
        name: folder or hub id of an AutoencoderTiny.

    Raises:
        ModelError: the decoder is missing, damaged, of another class, or for other latents.
    """
    return _load(backbone, name, AutoencoderTiny, f"the decoder {name}", DECODER_HINT)


def _load(backbone: Backbone, name: str, kind: type[Any], what: str, hint: str) -> Any:
    """Load an autoencoder of a class of diffusers, for the latents of a backbone; `what` and `hint` are for errors."""
    folder = Path(name)
    try:
        folder = folder if folder.exists() else fetch(name, AUTOENCODER_FILES)
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        raise ModelError(f"there is no {what[4:]} ({reason(error)})", hint) from error
    if not (folder / CONFIG_FILE).is_file():
        raise ModelError(f"there is no {what[4:]}: it has no {CONFIG_FILE}", hint)
    with explain(what, hint):
        named = read_object(folder / CONFIG_FILE, what).get("_class_name")
        if named != kind.__name__:
            raise ModelError(f"{what} is of the class {named}, not {kind.__name__}", hint)
        require_network(folder, what, file=WEIGHTS, pickle_file=f"{WEIGHTS}.bin")
        loaded: Any = load_whole(kind, folder, torch_dtype=backbone.dtype)
    config = loaded.config
    widths = config.block_out_channels if kind is AutoencoderKL else config.decoder_block_out_channels
    got = config.latent_channels, 2 ** (len(widths) - 1)
    expected = backbone.latent_channels, backbone.downscale
    if got != expected:
        raise ModelError(
            f"{what} is for latents of {got[0]} channels and 1/{got[1]} of the size, not {expected[0]} and "
            f"1/{expected[1]}",
            "Give one that was trained on the latents of the model's own autoencoder",
        )
    return loaded.to(backbone.device).eval().requires_grad_(False)
