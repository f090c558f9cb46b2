"""SDXL's UNet and two text encoders in training."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ip2p.conditioning import embed_xl
from ip2p.models.backbone import Backbone
from ip2p.models.tokens import tokenize
from ip2p.train.objective import EditingModel


class XlEditingModel(nn.Module):
    """UNet and both text encoders of an SDXL editor as one module, see `EditingModel`.

    Tokens are those of both tokenizers, side by side. The empty prompt is what the model takes for no text: zeros where
    its pipeline says force_zeros_for_empty_prompt. The size conditioning is the size of the crop, as `Backbone.predict`
    gives it in editing.

    Args:
        backbone: the model.
    """

    empty: Int[Tensor, "1 n"]

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.unet: nn.Module = backbone.unet
        self.text_encoder: nn.Module = backbone.text_encoder
        self.text_encoder_2: nn.Module = backbone.text_encoder_2
        encoders = (self.text_encoder, self.text_encoder_2)
        self.trains_text = any(parameter.requires_grad for each in encoders for parameter in each.parameters())
        self.zeroes_empty, self.downscale = backbone.zero_empty_text, backbone.downscale
        self.register_buffer("empty", tokenize_texts(backbone, [""]).to(backbone.device), persistent=False)

    def forward(
        self,
        noised: Float[Tensor, "b c h w"],
        timesteps: Int[Tensor, " b"],
        condition: Float[Tensor, "b c h w"],
        tokens: Int[Tensor, "b n"],
    ) -> Float[Tensor, "b c h w"]:
        """Return the UNet's prediction, in the base model's prediction type."""
        zeroed = (tokens == self.empty).all(dim=1) if self.zeroes_empty else None
        with torch.set_grad_enabled(self.trains_text and torch.is_grad_enabled()):
            text = embed_xl(self.text_encoder, self.text_encoder_2, *tokens.chunk(2, dim=1), zeroed=zeroed)
        height, width = (side * self.downscale for side in noised.shape[-2:])
        sizes = text.tokens.new_tensor([height, width, 0, 0, height, width]).expand(len(noised), -1)
        prediction: Tensor = self.unet(
            torch.cat([noised, condition], dim=1), timesteps, encoder_hidden_states=text.tokens,
            added_cond_kwargs={"text_embeds": text.pooled, "time_ids": sizes},
        ).sample  # fmt: skip
        return prediction


def tokenize_texts(backbone: Backbone, texts: Sequence[str]) -> Int[Tensor, "b n"]:
    """Tokenize texts for the editing model of a backbone: by its tokenizer, or by both of SDXL's, side by side."""
    tokens = backbone.tokenize(texts)
    if not backbone.is_xl:
        return tokens
    return torch.cat([tokens, tokenize(backbone.tokenizer_2, backbone.text_encoder_2, texts, warn=False)], dim=1)


def editing_model(backbone: Backbone) -> EditingModel | XlEditingModel:
    """Make the module that is trained of a model whose trained weights are chosen."""
    return XlEditingModel(backbone) if backbone.is_xl else EditingModel(backbone.unet, backbone.text_encoder)
