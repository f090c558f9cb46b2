"""Whether the components of a model belong together: widths of texts, latents, pictures and vocabularies."""

import math
from typing import Any

from ip2p.errors import ModelError

SIZE_NUMBERS = 6  # SDXL's size conditioning: original size, crop offset and target size, two numbers each
HINT = "Give a whole model of one family: the UNet with the text encoders that it was trained with"


def require_one_family(name: str, unet: Any, text_encoder: Any, second: Any) -> None:
    """Check that the UNet takes the embeddings of these text encoders, by their number and width.

    Args:
        name: name of the model in an error.
        unet: UNet2DConditionModel.
        text_encoder, second: the text encoder, and SDXL's second one.

    Raises:
        ModelError: it takes others.
    """
    config, xl = unet.config, second is not None
    if (config.addition_embed_type == "text_time") != xl:
        expected, got = ("one text encoder", "SDXL's two") if xl else ("SDXL's two text encoders", "one")
        raise ModelError(f"the UNet of {name} expects {expected}, not {got}", HINT)
    width = text_encoder.config.hidden_size + (second.config.hidden_size if xl else 0)
    if config.cross_attention_dim != width:
        raise ModelError(f"the UNet of {name} expects texts of width {config.cross_attention_dim}, not {width}", HINT)
    if xl:
        pooled = config.projection_class_embeddings_input_dim
        got = second.config.projection_dim + SIZE_NUMBERS * config.addition_time_embed_dim
        if pooled != got:
            raise ModelError(f"the UNet of {name} expects {pooled} numbers of size and pooled text, not {got}", HINT)


def require_vocabulary(name: str, tokenizer: Any, text_encoder: Any) -> None:
    """Check that a tokenizer knows letters, and gives only tokens that the text encoder has embeddings of.

    Raises:
        ModelError: it does not.
    """
    vocabulary, rows = tokenizer.get_vocab(), text_encoder.config.vocab_size
    read = tokenizer("a").input_ids[1:-1]
    if not read or tokenizer.unk_token_id in read:
        raise ModelError(f"the tokenizer of {name} has no vocabulary: it has {len(vocabulary)} tokens", HINT)
    if max(vocabulary.values()) >= rows:
        raise ModelError(
            f"the tokenizer of {name} has {1 + max(vocabulary.values())} tokens, and its text encoder {rows}", HINT
        )
    if not 2 <= tokenizer.model_max_length:
        raise ModelError(f"the tokenizer of {name} reads {tokenizer.model_max_length} tokens of a text", HINT)


def require_scale(name: str, scale: float, shift: float) -> None:
    """Check the scale and shift of an autoencoder's latents.

    Raises:
        ModelError: one is not finite, or the scale is not positive.
    """
    if not (math.isfinite(scale) and math.isfinite(shift) and scale > 0):
        raise ModelError(f"the latents of {name} have scale {scale} and shift {shift}", "Give another model")
