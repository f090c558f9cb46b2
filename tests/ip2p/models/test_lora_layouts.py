"""LoRA files of every trainer's layout are merged exactly as they say, as by hand; others are refused whole."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lora_files import BLOCK, CONV, FORWARD, MLP, OUT, QUERY, SD, SECOND, TEXT, XL, ByHand, flat, kohya_sd, kohya_sdxl
from peft import LoHaConfig, LoKrConfig, LoraConfig, get_peft_model
from safetensors.torch import save_file
from torch import Tensor

from ip2p.errors import ModelError
from ip2p.models.backbone import load_backbone
from ip2p.models.lora import Lora, merge_loras


def locon(file: ByHand) -> None:
    """Convolutions; in the second the kernel is between two 1 x 1 convolutions."""
    file.kohya(f"lora_unet_{flat(CONV)}", CONV, 1.0)
    name = "mid_block.resnets.0.conv1"
    down, mid, up = torch.randn(3, 16, 1, 1), torch.randn(3, 3, 3, 3), torch.randn(16, 3, 1, 1)
    key = f"lora_unet_{flat(name)}"
    file.keys |= {f"{key}.lora_down.weight": down, f"{key}.lora_mid.weight": mid, f"{key}.lora_up.weight": up}
    file.keys[f"{key}.alpha"] = torch.tensor(1.5)
    file.change(name, lambda w: w + 0.5 * torch.einsum("oa,abhw,bi->oihw", up[..., 0, 0], mid, down[..., 0, 0]))


def dora(file: ByHand) -> None:
    """DoRA of OneTrainer and LyCORIS: lengths of rows (out, 1), of columns (1, in), and of a convolution's outputs."""
    for name, shape in ((QUERY, (16, 1)), (FORWARD, (1, 16)), (CONV, (8, 1, 1, 1))):
        key, (down, up), lengths = f"lora_unet_{flat(name)}", file.matrices(name), torch.rand(shape) + 0.5
        file.keys |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up, f"{key}.dora_scale": lengths}
        file.keys[f"{key}.alpha"] = torch.tensor(1.0)
        product = 0.5 * up.flatten(1) @ down.flatten(1)

        def changed(w: Tensor, product: Tensor = product, lengths: Tensor = lengths) -> Tensor:
            whole = w.flatten(1) + product
            norm = whole.norm(dim=0, keepdim=True) if lengths.shape[0] == 1 else whole.norm(dim=1, keepdim=True)
            return (lengths.reshape(norm.shape) * whole / norm).reshape(w.shape)

        file.change(name, changed)


def peft_dora(file: ByHand) -> None:
    """DoRA of diffusers' training scripts: one number for each output."""
    (down, up), lengths = file.matrices(QUERY), torch.rand(16) + 0.5
    key = f"unet.{QUERY}"
    file.keys |= {
        f"{key}.lora_A.weight": down,
        f"{key}.lora_B.weight": up,
        f"{key}.lora_magnitude_vector.weight": lengths,
    }
    file.change(QUERY, lambda w: lengths[:, None] * (w + up @ down) / (w + up @ down).norm(dim=1, keepdim=True))


def diffusers(file: ByHand) -> None:
    """Without a word about alpha it is the rank, also where ranks differ."""
    for name, rank in ((QUERY, 2), (OUT, 4), (CONV, 2)):
        file.add(name, (f"unet.{name}.lora_A.weight", f"unet.{name}.lora_B.weight"), 1.0, rank)
    for network in ("text_encoder", "text_encoder_2"):
        key = f"{network}.{TEXT}"
        file.add(TEXT, (f"{key}.lora_A.weight", f"{key}.lora_B.weight"), 1.0, network=network)


def diffusers_header(file: ByHand) -> None:
    """The header says alpha, for each network, with exceptions."""
    said = {
        "unet.r": 2, "unet.lora_alpha": 6, "unet.alpha_pattern": {"to_out.0": 1}, "text_encoder.r": 2,
        "text_encoder.lora_alpha": 1, "text_encoder.use_rslora": True,
    }  # fmt: skip
    file.header["lora_adapter_metadata"] = json.dumps(said)
    for name, factor in ((QUERY, 3.0), (OUT, 0.5)):
        file.add(name, (f"unet.{name}.lora_A.weight", f"unet.{name}.lora_B.weight"), factor)
    key = f"text_encoder.{TEXT}"
    file.add(TEXT, (f"{key}.lora_A.weight", f"{key}.lora_B.weight"), 1 / 2**0.5, network="text_encoder")


def old_diffusers(file: ByHand) -> None:
    """The attention processors of the first training scripts."""
    for name, key in ((QUERY, f"{BLOCK}.attn1.processor.to_q"), (OUT, f"{BLOCK}.attn1.processor.to_out")):
        file.add(name, (f"unet.{key}_lora.down.weight", f"unet.{key}_lora.up.weight"), 1.0)
    key = "text_encoder.text_model.encoder.layers.0.self_attn.to_q_lora"
    file.add(TEXT, (f"{key}.down.weight", f"{key}.up.weight"), 1.0, network="text_encoder")


def oldest_diffusers(file: ByHand) -> None:
    """The same without the name of the network."""
    for name, key in ((QUERY, f"{BLOCK}.attn1.processor.to_q"), (OUT, f"{BLOCK}.attn1.processor.to_out")):
        file.add(name, (f"{key}_lora.down.weight", f"{key}_lora.up.weight"), 1.0)


def linear_layers(file: ByHand) -> None:
    """Layers that bear their LoRA, before diffusers had peft."""
    file.add(QUERY, (f"unet.{QUERY}.lora.down.weight", f"unet.{QUERY}.lora.up.weight"), 1.0)
    for name in (TEXT, MLP):
        key = f"text_encoder.{name}.lora_linear_layer"
        file.add(name, (f"{key}.down.weight", f"{key}.up.weight"), 1.0, network="text_encoder")


def peft_folder(file: ByHand) -> None:
    """A folder of peft's, whose alphas are in a file beside the weights; and a bias."""
    said = {"r": 2, "lora_alpha": 8, "alpha_pattern": {"attn2.to_v": 1}, "peft_type": "LORA"}
    file.path.with_name("adapter_config.json").write_text(json.dumps(said))
    for name, factor in ((QUERY, 4.0), (SECOND, 0.5)):
        key = f"base_model.model.{name}"
        file.add(name, (f"{key}.lora_A.weight", f"{key}.lora_B.weight"), factor)
    down, up = file.matrices(OUT)
    bias, key = torch.randn(16), f"base_model.model.{OUT}"
    file.keys |= {f"{key}.lora_A.weight": down, f"{key}.lora_B.weight": up, f"{key}.lora_B.bias": bias}
    file.change(OUT, lambda w: w + 4 * up @ down, bias=4 * bias)


def adapter_names(file: ByHand) -> None:
    """Weights saved from a model with a named adapter."""
    for name in (QUERY, CONV):
        file.add(name, (f"unet.{name}.lora_A.default.weight", f"unet.{name}.lora_B.default.weight"), 1.0)


def comfyui(file: ByHand) -> None:
    """The original checkpoint's names with dots, and plain differences of weights and biases."""
    key = "diffusion_model.input_blocks.3.1.transformer_blocks.0.attn1.to_q"
    file.kohya(key, QUERY, 1.0)
    file.kohya("text_encoders.clip_l.transformer.text_model.encoder.layers.0.mlp.fc1", MLP, 4.0, network="text_encoder")
    change, bias = torch.randn(8, 8, 3, 3), torch.randn(8)
    file.keys |= {"diffusion_model.input_blocks.1.0.in_layers.2.diff": change}
    file.keys |= {"diffusion_model.input_blocks.1.0.in_layers.2.diff_b": bias}
    file.change(CONV, lambda w: w + change, bias=bias)


def loha(file: ByHand) -> None:
    """LyCORIS: a product of two products, element by element."""
    for name, columns in ((QUERY, 16), (CONV, 8 * 9)):
        key, rows = f"lora_unet_{flat(name)}", 16 if name == QUERY else 8
        parts = [torch.randn(rows, 2), torch.randn(2, columns), torch.randn(rows, 2), torch.randn(2, columns)]
        file.keys |= {
            f"{key}.hada_{at}": part for at, part in zip(("w1_a", "w1_b", "w2_a", "w2_b"), parts, strict=True)
        }
        file.keys[f"{key}.alpha"] = torch.tensor(1.0)
        a, b, c, d = parts
        product = (a @ b) * (c @ d)
        file.change(name, lambda w, product=product: w + 0.5 * product.reshape(w.shape))  # type: ignore[misc]


def lokr(file: ByHand) -> None:
    """LyCORIS: a product of Kronecker's; alpha counts where one of its factors has a rank."""
    one, two = torch.randn(4, 4), torch.randn(4, 4)
    key = f"lora_unet_{flat(QUERY)}"
    file.keys |= {f"{key}.lokr_w1": one, f"{key}.lokr_w2": two, f"{key}.alpha": torch.tensor(9.0)}
    file.change(QUERY, lambda w: w + torch.kron(one, two))
    first, left, right = torch.randn(2, 2), torch.randn(4, 2), torch.randn(2, 4, 3, 3)
    key = f"lora_unet_{flat(CONV)}"
    file.keys |= {f"{key}.lokr_w1": first, f"{key}.lokr_w2_a": left, f"{key}.lokr_w2_b": right.flatten(1)}
    file.keys[f"{key}.alpha"] = torch.tensor(1.0)
    second = torch.einsum("or,rihw->oihw", left, right)
    file.change(CONV, lambda w: w + 0.5 * torch.kron(first[:, :, None, None], second))


LAYOUTS = (
    (kohya_sd, SD), (kohya_sdxl, XL), (locon, SD), (dora, SD), (dora, XL), (peft_dora, SD), (diffusers, XL),
    (diffusers_header, SD), (old_diffusers, SD), (oldest_diffusers, SD), (linear_layers, SD), (peft_folder, SD),
    (adapter_names, SD), (comfyui, SD), (comfyui, XL), (loha, SD), (lokr, SD),
)  # fmt: skip


@pytest.mark.parametrize("scale", [1.0, -0.5])
@pytest.mark.parametrize(("layout", "folder"), LAYOUTS)
def test_a_file_of_every_layout_is_merged_as_by_hand(
    layout: Callable[[ByHand], None], folder: str, scale: float, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    torch.manual_seed(2)
    source = request.getfixturevalue(folder)
    before, backbone = load_backbone(source), load_backbone(source)
    file = ByHand(before, tmp_path / "lora.safetensors")
    layout(file)
    save_file(file.keys, file.path, metadata={"format": "pt"} | file.header)
    merge_loras(backbone, [Lora(file.path, scale)])
    after = ByHand(backbone, file.path)
    changed = {network: set(getattr(before, network).state_dict()) for network, _ in file.expected}
    for (network, name), (weight, bias) in file.expected.items():
        old, new = file.module(network, name), after.module(network, name)
        assert not torch.allclose(weight, old.weight)
        torch.testing.assert_close(new.weight.data, old.weight + scale * (weight - old.weight), atol=1e-5, rtol=1e-5)
        path = next(path for path, module in getattr(before, network).named_modules() if module is old)
        changed[network] -= {f"{path}.weight"}
        if bias is not None:
            torch.testing.assert_close(new.bias.data, old.bias + scale * (bias - old.bias))
            changed[network] -= {f"{path}.bias"}
    for network, others in changed.items():  # and nothing else
        old, new = getattr(before, network).state_dict(), getattr(backbone, network).state_dict()
        assert all(torch.equal(old[name], new[name]) for name in others)


@pytest.mark.parametrize(
    "options", [{}, {"use_dora": True}, {"use_rslora": True}, {"alpha_pattern": {"attn2.to_k": 8}}]
)
def test_what_peft_saves_is_what_peft_merges(sd_editor_folder: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    torch.manual_seed(3)
    backbone, peer = load_backbone(sd_editor_folder), load_backbone(sd_editor_folder)
    config = LoraConfig(r=2, lora_alpha=3, target_modules=["to_q", "to_k", "conv1"], init_lora_weights=False, **options)
    model: Any = get_peft_model(peer.unet, config)
    model.save_pretrained(tmp_path)
    merge_loras(backbone, [Lora(tmp_path / "adapter_model.safetensors")])
    expected = model.merge_and_unload().state_dict()
    for name, weight in backbone.unet.state_dict().items():
        torch.testing.assert_close(weight, expected[name], atol=1e-5, rtol=1e-5)


def test_the_config_of_a_file_of_pefts_says_nothing_of_its_neighbours(sd_editor_folder: Path, tmp_path: Path) -> None:
    with_config, without = load_backbone(sd_editor_folder), load_backbone(sd_editor_folder)
    file = ByHand(without, tmp_path / "lora.safetensors")
    linear_layers(file)
    save_file(file.keys, file.path)
    merge_loras(without, [Lora(file.path)])
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 2, "lora_alpha": 8, "peft_type": "LORA"}))
    merge_loras(with_config, [Lora(file.path)])
    for name, weight in without.unet.state_dict().items():
        assert torch.equal(weight, with_config.unet.state_dict()[name])


def test_dora_without_its_magnitude_is_refused(sd_editor_folder: Path, tmp_path: Path) -> None:
    peer = load_backbone(sd_editor_folder)
    config = LoraConfig(r=2, lora_alpha=3, target_modules=["to_q"], init_lora_weights=False)
    model: Any = get_peft_model(peer.unet, config)
    model.save_pretrained(tmp_path)
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"use_dora": True}))
    with pytest.raises(ModelError, match="the file lacks its magnitude, though its config says use_dora"):
        merge_loras(load_backbone(sd_editor_folder), [Lora(tmp_path / "adapter_model.safetensors")])


def test_weights_of_8_bits_are_merged(sd_editor_folder: Path, tmp_path: Path) -> None:
    backbone, before = load_backbone(sd_editor_folder), load_backbone(sd_editor_folder)
    file = ByHand(before, tmp_path / "lora.safetensors")
    kohya_sd(file)
    small = {name: weight.to(torch.float8_e4m3fn) for name, weight in file.keys.items() if "alpha" not in name}
    save_file(small, file.path)
    merge_loras(backbone, [Lora(file.path)])
    assert all(weight.isfinite().all() for weight in backbone.unet.state_dict().values())
    assert any(
        not torch.equal(weight, before.unet.state_dict()[name]) for name, weight in backbone.unet.state_dict().items()
    )


@pytest.mark.parametrize("kind", [LoHaConfig, LoKrConfig])
def test_an_alpha_of_pefts_variants_counts(kind: Any, sd_editor_folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    backbone, peer = load_backbone(sd_editor_folder), load_backbone(sd_editor_folder)
    config = kind(r=2, alpha=3, target_modules=["to_q", "to_k"], init_weights=False, alpha_pattern={"attn2.to_k": 8})
    model: Any = get_peft_model(peer.unet, config)
    model.save_pretrained(tmp_path)
    merge_loras(backbone, [Lora(tmp_path / "adapter_model.safetensors")])
    expected = model.merge_and_unload().state_dict()
    for name, weight in backbone.unet.state_dict().items():
        torch.testing.assert_close(weight, expected[name], atol=1e-5, rtol=1e-5)
