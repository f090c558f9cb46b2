"""Fine-tuning as diffusers' train_instruct_pix2pix.py does it, written plainly: the peer of train.py.

It does per step what that script does: pictures are decoded, resized and mirrored in workers of a DataLoader; both are
encoded, the instruction and the empty prompt embedded; conditions are dropped; UNet forward and backward, clipping,
AdamW, an average of the weights; and the loss is read twice. Its flags have that script's names.
"""

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from datasets import load_dataset
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader
from transformers import CLIPTextModel, CLIPTokenizer

DROP = 0.05


def make_loader(flags: argparse.Namespace, tokenizer: CLIPTokenizer) -> DataLoader[Any]:
    """Load pictures and token ids of batches, in a random order."""
    side = flags.resolution

    def transform(rows: dict[str, list[Any]]) -> dict[str, Any]:
        columns = [rows[flags.original_image_column], rows[flags.edited_image_column]]
        stacked = np.stack(
            [np.asarray(image.convert("RGB").resize((side, side))) for each in columns for image in each]
        )
        pixels = torch.tensor(stacked.transpose(0, 3, 1, 2)) / 127.5 - 1
        if flags.random_flip and torch.rand(()) < 0.5:
            pixels = pixels.flip(-1)
        originals, edited = pixels.chunk(2)
        ids = tokenizer(
            list(rows[flags.edit_prompt_column]),
            padding="max_length",
            truncation=True,
            max_length=tokenizer.model_max_length,
            return_tensors="pt",
        ).input_ids
        return {"originals": originals, "edited": edited, "ids": ids}

    pairs = load_dataset(flags.dataset_name)["train"].with_transform(transform)
    return DataLoader(pairs, batch_size=flags.train_batch_size, shuffle=True, num_workers=flags.dataloader_num_workers)


def widen(unet: Any) -> None:
    """Give the first convolution four more channels, of zero weight."""
    old = unet.conv_in
    new = nn.Conv2d(8, old.out_channels, old.kernel_size, old.stride, old.padding)
    with torch.no_grad():
        new.weight.zero_()
        new.weight[:, :4] = old.weight
    unet.conv_in = new
    unet.register_to_config(in_channels=8)


def forever(loader: DataLoader[Any]) -> Iterator[dict[str, torch.Tensor]]:
    """Yield batches, epoch after epoch."""
    while True:
        yield from loader


def train(flags: argparse.Namespace) -> None:
    """Train until the steps are done."""
    accelerator = Accelerator(mixed_precision=flags.mixed_precision)
    torch.manual_seed(flags.seed)
    model = flags.pretrained_model_name_or_path
    tokenizer = CLIPTokenizer.from_pretrained(model, subfolder="tokenizer")
    vae = AutoencoderKL.from_pretrained(model, subfolder="vae").requires_grad_(False)
    text_encoder = CLIPTextModel.from_pretrained(model, subfolder="text_encoder").requires_grad_(False)
    unet = UNet2DConditionModel.from_pretrained(model, subfolder="unet")
    scheduler = DDPMScheduler.from_pretrained(model, subfolder="scheduler")
    widen(unet)
    ema = EMAModel(unet.parameters()) if flags.use_ema else None
    optimizer = torch.optim.AdamW(unet.parameters(), lr=flags.learning_rate, weight_decay=0.01)
    rate = get_scheduler("constant", optimizer)
    unet, optimizer, loader, rate = accelerator.prepare(unet, optimizer, make_loader(flags, tokenizer), rate)
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(flags.mixed_precision, torch.float32)
    for frozen in (vae, text_encoder):
        frozen.to(accelerator.device, dtype)
    unet.train()
    for step, batch in enumerate(forever(loader)):
        if step == flags.max_train_steps:
            break
        with accelerator.accumulate(unet):
            latents = vae.encode(batch["edited"].to(dtype)).latent_dist.sample() * vae.config.scaling_factor
            noise = torch.randn_like(latents)
            timesteps = torch.randint(scheduler.config.num_train_timesteps, (len(latents),), device=latents.device)
            noised = scheduler.add_noise(latents, noise, timesteps)
            text = text_encoder(batch["ids"])[0]
            condition = vae.encode(batch["originals"].to(dtype)).latent_dist.mode()
            chance = torch.rand(len(latents), 1, 1, device=latents.device)
            empty = tokenizer("", padding="max_length", max_length=tokenizer.model_max_length, return_tensors="pt")
            nothing = text_encoder(empty.input_ids.to(latents.device))[0]
            text = torch.where(chance < 2 * DROP, nothing, text)
            condition = condition * ((chance < DROP) | (chance >= 3 * DROP)).to(dtype)[..., None]
            prediction = unet(torch.cat([noised, condition], dim=1), timesteps, text, return_dict=False)[0]
            loss = functional.mse_loss(prediction.float(), noise.float())
            accelerator.gather(loss.repeat(flags.train_batch_size)).mean().item()
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(unet.parameters(), 1.0)
            optimizer.step()
            rate.step()
            optimizer.zero_grad()
        if ema:
            ema.step(unet.parameters())
        loss.detach().item()


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("pretrained_model_name_or_path", "dataset_name", "output_dir"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("original_image", "edit_prompt", "edited_image"):
        parser.add_argument(f"--{name}_column", default=name)
    parser.add_argument("--mixed_precision", default="no")
    for name, number in {"resolution": 256, "train_batch_size": 16, "dataloader_num_workers": 0, "max_train_steps": 1,
                         "checkpointing_steps": 500, "seed": 0}.items():  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=number)
    for name, rate in {"learning_rate": 1e-4, "conditioning_dropout_prob": DROP}.items():
        parser.add_argument(f"--{name}", type=float, default=rate)
    for name in ("use_ema", "random_flip"):
        parser.add_argument(f"--{name}", action="store_true")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
