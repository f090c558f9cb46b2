"""The storybook base model: a text encoder and a UNet, trained together to turn captions into latents."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from ip2p.device import autocast
from ip2p.diffusion.noise import ForwardProcess
from ip2p.editing.generation import generate
from ip2p.models.backbone import Backbone, load_backbone
from ip2p.models.widen import suit_attention
from ip2p.pictures.contact_sheet import contact_sheet
from ip2p.seeding import derive_seed, generator
from ip2p.storybook.edits import evaluation_cases
from ip2p.storybook.language import caption
from ip2p.train.objective import draw_randomness
from ip2p.train.optimizer import computes_bf16
from ip2p.train.order import ShuffledOrder
from ip2p.train.storybook.tokens import POSITIONS
from ip2p.train.storybook.world import World

CAPTION_DROPOUT = 0.1
ENCODING_BATCH = 32  # pictures encoded at a time
TEXT_WIDTH = 160
DEFAULT_SETTINGS = {"scale": 3.0}
SHEET_SHAPE = (4, 8)

_PLAIN, _CROSS = "DownBlock2D", "CrossAttnDownBlock2D"
UNETS: dict[str, dict[str, Any]] = {
    # A thin level of plain convolutions at 32 x 32, attention at 16 x 16, 8 x 8 and 4 x 4: 12.9 M weights.
    "thin": {
        "block_out_channels": (48, 96, 160, 160), "transformer_layers_per_block": (1, 1, 2, 1),
        "down_block_types": (_PLAIN, _CROSS, _CROSS, _CROSS),
    },
    # Three transformer layers at 16 x 16 and none at 4 x 4, so that shared attention keeps more layout. 12.4 M weights.
    "attention": {
        "block_out_channels": (48, 96, 160, 160), "transformer_layers_per_block": (1, 3, 2, 1),
        "down_block_types": (_PLAIN, _CROSS, _CROSS, _PLAIN),
    },
}  # fmt: skip
HEAD_WIDTH = 32
NORM_GROUPS = 16


class DiffusionTask:
    """Trains text encoder and UNet on latents by v-prediction, with a tenth of the captions dropped.

    Args:
        world: training scenes.
        vae: finished autoencoder.
        tokenizer: tokenizer of the captions.
        unet: name of the UNet, a key of UNETS.
        latents: latents of the world's pictures in fp16, shape (n, c, h, w).
        device: device to train on.
        seed: seed of order, captions, noise and initial weights.
        encoder: hash of the encoder that the latents are from: a run goes on with no other.
    """

    batch = 32
    learning_rate = 1.5e-3
    weight_decay = 0.01
    ema_decay = 0.999

    def __init__(
        self, world: World, vae: Any, tokenizer: CLIPTokenizer, unet: str, latents: Tensor,
        device: torch.device, seed: int, *, encoder: str = "",
    ) -> None:  # fmt: skip
        torch.manual_seed(seed)
        self.name, self.unet = f"diffusion-{unet}", unet
        self.world, self.latents, self.device, self.seed = world, latents, device, seed
        self.backbone = Backbone(
            vae=vae.to(device), text_encoder=make_text_encoder(tokenizer).to(device), tokenizer=tokenizer,
            unet=make_unet(unet).to(device), scheduler=make_schedule(), name=self.name, path=Path(),
            own_settings=DEFAULT_SETTINGS,
        )  # fmt: skip
        suit_attention(self.backbone.unet, device)
        self.modules: dict[str, nn.Module] = {"unet": self.backbone.unet, "text_encoder": self.backbone.text_encoder}
        self.settings: Mapping[str, Any] = {
            "task": self.name, "seed": seed, "scenes": len(world), "encoder": encoder,
        }  # fmt: skip
        self.process = ForwardProcess(self.backbone.scheduler)
        self.order = ShuffledOrder(len(world), seed)

    def load(self, bundled: Path) -> None:
        """See Task."""
        begun = load_backbone(bundled / "base", want="base")
        self.backbone.unet.load_state_dict(begun.unet.state_dict())
        self.backbone.text_encoder.load_state_dict(begun.text_encoder.state_dict())

    def loss(self, positions: Sequence[int]) -> Tensor:
        """See Task."""
        rows = [self.order.row(position) for position in positions]
        target = self.latents[rows].to(self.device, torch.float32)
        generators = [generator(self.seed, self.name, str(position)) for position in positions]
        draws = draw_randomness(generators, (target.shape[1], target.shape[2], target.shape[3]), self.process.timesteps)
        captions = [
            "" if gone else self._caption(row, position)
            for row, position, gone in zip(rows, positions, (draws.uniform < CAPTION_DROPOUT).tolist(), strict=True)
        ]
        timesteps, noise = draws.timesteps.to(self.device), draws.noise.to(self.device)
        text = self.backbone.text_encoder(self.backbone.tokenize(captions).to(self.device))[0]
        noised = self.process.add_noise(target, noise, timesteps)
        prediction: Tensor = self.backbone.unet(noised, timesteps, encoder_hidden_states=text).sample
        return (prediction.float() - self.process.target(target, noise, timesteps)).square().mean()

    def sheet(self) -> Image.Image:
        """Return a sheet of pictures drawn from held-out captions."""
        rows, columns = SHEET_SHAPE
        captions = [case.caption for case in evaluation_cases(rows * columns, seed=1)]
        pictures = generate(self.backbone, captions, seeds=list(range(len(captions))), batch=rows * columns)
        return contact_sheet(
            [pictures[start : start + columns] for start in range(0, len(pictures), columns)],
            [" | ".join(captions[start : start + 2]) for start in range(0, len(pictures), columns)],
        )

    def _caption(self, row: int, position: int) -> str:
        return caption(self.world.scenes[row], random.Random(derive_seed(self.seed, "caption", str(position))))


def make_text_encoder(tokenizer: CLIPTokenizer) -> Any:
    """Make a text encoder of three layers, 160 wide, with random weights."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=TEXT_WIDTH, intermediate_size=4 * TEXT_WIDTH, num_hidden_layers=3,
            num_attention_heads=4, max_position_embeddings=POSITIONS, projection_dim=TEXT_WIDTH,
            bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip


def make_unet(name: str) -> Any:
    """Make a UNet of UNETS whose residual branches start at zero, so that training starts with a shallow network."""
    up_blocks = {_PLAIN: "UpBlock2D", _CROSS: "CrossAttnUpBlock2D"}
    unet: Any = UNet2DConditionModel(
        sample_size=32, norm_num_groups=NORM_GROUPS, in_channels=4, out_channels=4, layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=tuple(max(1, width // HEAD_WIDTH) for width in UNETS[name]["block_out_channels"]),
        up_block_types=tuple(up_blocks[block] for block in reversed(UNETS[name]["down_block_types"])),
        use_linear_projection=True, **UNETS[name],
    )  # fmt: skip
    for path, module in unet.named_modules():
        if path.endswith(("conv2", "proj_out", "to_out.0", "ff.net.2", "conv_out")):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    return unet


def make_schedule() -> DDIMScheduler:
    """Make a scheduler with Stable Diffusion's noise schedule and v-prediction."""
    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction",
        clip_sample=False, set_alpha_to_one=False, steps_offset=1,
    )  # fmt: skip


@torch.inference_mode()
def encode_world(world: World, vae: Any, path: Path, device: torch.device) -> Float[Tensor, "n c h w"]:
    """Encode all pictures of a world as latents in fp16, or load them from an earlier run.

    Args:
        world: scenes with their pictures.
        vae: finished autoencoder, which computes in bf16 if the device does so natively.
        path: path of the file of latents.
        device: device that encodes.
    """
    if not path.is_file():
        vae.to(device)
        starts = range(0, len(world), ENCODING_BATCH)
        with autocast(device, torch.bfloat16 if computes_bf16(device) else torch.float32):
            chunks = [
                vae.encode(world.pictures(range(start, min(start + ENCODING_BATCH, len(world)))).to(device))
                .latents.half()
                .cpu()
                for start in starts
            ]
        temporary = path.with_suffix(".tmp")
        torch.save(torch.cat(chunks), temporary)
        temporary.replace(path)
    latents: Tensor = torch.load(path, weights_only=True)
    return latents
