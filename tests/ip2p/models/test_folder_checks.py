"""Damaged model folders of every kind end in one line that names the part, without a network, and run no code."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ip2p.errors import ModelError
from ip2p.models.backbone import load_backbone
from ip2p.models.convert import convert

Damage = Callable[[Path], object]
UNET, VAE, TEXT = "unet/config.json", "vae/config.json", "text_encoder/config.json"
UNET_WEIGHTS, TEXT_WEIGHTS = "unet/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors"
SCHEDULE, INDEX, CHECKER = "scheduler/scheduler_config.json", "model_index.json", "safety_checker/config.json"


def put(name: str, content: Any) -> Damage:
    """Replace a file by JSON, or by bytes; None removes it."""

    def damage(folder: Path) -> None:
        (folder / name).unlink()
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        elif content is not None:
            (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))

    return damage


def change(name: str, **values: Any) -> Damage:
    """Change values in a JSON file."""

    def damage(folder: Path) -> None:
        found = json.loads((folder / name).read_text()) | values
        put(name, found)(folder)

    return damage


def rename(name: str, to: str) -> Damage:
    return lambda folder: (folder / name).rename((folder / name).with_name(to))


def pickled(name: str, to: str) -> Damage:
    """Replace weights by a pickle of them."""

    def damage(folder: Path) -> None:
        weights = load_file(folder / name)
        (folder / name).unlink()
        torch.save(weights, (folder / name).with_name(to))

    return damage


def index(file: str, *, keep: bool = False) -> Damage:
    """Name a pickle, or another file, in an index of the UNet's weights."""

    def damage(folder: Path) -> None:
        weights = load_file(folder / UNET_WEIGHTS)
        if not keep:
            (folder / UNET_WEIGHTS).unlink()
        torch.save(weights, folder / "unet" / "part.bin")
        text = json.dumps({"metadata": {}, "weight_map": dict.fromkeys(weights, file)})
        (folder / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(text)

    return damage


def reshape(folder: Path) -> None:
    weights = load_file(folder / UNET_WEIGHTS)
    weights["conv_out.weight"] = torch.zeros(4, 8, 1, 1)
    put(UNET_WEIGHTS, None)(folder)
    save_file(weights, folder / UNET_WEIGHTS, metadata={"format": "pt"})


def replace_by_folder(folder: Path) -> None:
    put(UNET_WEIGHTS, None)(folder)
    (folder / UNET_WEIGHTS).mkdir()


def link_nowhere(folder: Path) -> None:
    put(TEXT_WEIGHTS, None)(folder)
    (folder / TEXT_WEIGHTS).symlink_to("nothing")


def without_vocabulary(folder: Path) -> None:
    for name in ("tokenizer.json", "vocab.json", "merges.txt"):
        (folder / "tokenizer" / name).unlink(missing_ok=True)


def add(name: str, content: Any) -> Damage:
    return lambda folder: (folder / name).write_text(json.dumps(content))


QUANTIZED = {"quant_method": "bitsandbytes", "load_in_4bit": True}
DEEP = "[" * 100_000
DAMAGED: dict[str, tuple[Damage, str]] = {
    "index: a list": (put(INDEX, []), "model_index.json is not readable"),
    "index: null": (put(INDEX, "null"), "model_index.json is not readable"),
    "index: bytes": (put(INDEX, b"\xff\xfe\0"), "model_index.json is not readable"),
    "index: nested without end": (put(INDEX, DEEP), "model_index.json is not readable"),
    "index: a class that is a number": (change(INDEX, unet=5), "model_index.json is not readable"),
    "index: a class that is an object": (change(INDEX, unet={"a": 1}), "model_index.json is not readable"),
    "index: no classes": (put(INDEX, {}), "None as its vae"),
    "index: another network": (change(INDEX, unet=["diffusers", "SD3Transformer2DModel"]), "SD3Trans.* as its unet"),
    "index: a class of this program": (change(INDEX, vae=["subprocess", "Popen"]), "Popen as its vae"),
    "index: no scheduler": (change(INDEX, scheduler=["diffusers", "AutoencoderKL"]), "as its scheduler"),
    "index: classes swapped": (change(INDEX, vae=["diffusers", "AutoencoderTiny"]), "load the vae"),
    "unet: config is a list": (put(UNET, [1]), "load the unet .*config.json is a list"),
    "unet: config is empty": (put(UNET, b""), "load the unet .*config.json is not readable"),
    "unet: config is missing": (put(UNET, None), "load the unet .*config.json is not readable"),
    "unet: config nested without end": (put(UNET, '{"a":' + DEEP), "load the unet .*config.json is not readable"),
    "unet: no groups": (change(UNET, norm_num_groups=0), "load the unet"),
    "unet: groups that do not divide": (change(UNET, norm_num_groups=3), "load the unet"),
    "unet: channels are a text": (change(UNET, block_out_channels="wide"), "load the unet"),
    "unet: negative channels": (change(UNET, block_out_channels=[-8, 16]), "load the unet"),
    "unet: blocks of no class": (change(UNET, down_block_types=["A", "B"]), "load the unet"),
    "unet: no heads": (change(UNET, attention_head_dim=0), "load the unet"),
    "unet: text for the width of texts": (change(UNET, cross_attention_dim="x"), "load the unet"),
    "unet: no input channels": (change(UNET, in_channels=None), "load the unet"),
    "unet: no size": (change(UNET, sample_size=None), "load the model"),
    "unet: a size that is a text": (change(UNET, sample_size="large"), "load the model"),
    "unet: quantized": (change(UNET, quantization_config=QUANTIZED), "load the unet .*quantized"),
    "unet: 3,000 layers": (change(UNET, layers_per_block=3000), "load the unet .*3000 layers, and its weights are"),
    "unet: 3,000 levels": (change(UNET, block_out_channels=[8] * 3000), "load the unet .*3000 layers"),
    "unet: 3,000 transformers": (change(UNET, transformer_layers_per_block=[[3000], 1]), "load the unet .*layers"),
    "unet: weights are a web page": (put(UNET_WEIGHTS, b"<!doctype html>" * 9), "load the unet .*is damaged"),
    "unet: weights are a pointer": (put(UNET_WEIGHTS, b"version https://git-lfs.github.com/spec/v1\n"), "is damaged"),
    "unet: weights are empty": (put(UNET_WEIGHTS, b""), "load the unet .*is damaged"),
    "unet: weights are a folder": (replace_by_folder, "load the unet"),
    "unet: weights of another shape": (reshape, "load the unet"),
    "unet: variant only": (
        rename(UNET_WEIGHTS, "diffusion_pytorch_model.fp16.safetensors"), "load the unet .*model.fp16.*Rename that file"
    ),
    "unet: pickle only": (
        pickled(UNET_WEIGHTS, "diffusion_pytorch_model.bin"), "load the unet .*is a pickle.*allow_pickle"
    ),
    "unet: index of a pickle": (index("part.bin"), "load the unet .*part.bin is a pickle.*allow_pickle"),
    "unet: index of a pickle beside weights": (index("part.bin", keep=True), "load the unet .*part.bin is a pickle"),
    "unet: index of files elsewhere": (index("../../part.bin"), "names '../../part.bin', which is not there"),
    "unet: index of nothing": (index("gone.safetensors"), "names 'gone.safetensors', which is not there"),
    "unet: index is a list": (add(f"{UNET_WEIGHTS}.index.json", [1]), "load the unet .*index.json is a list"),
    "unet: index without files": (add(f"{UNET_WEIGHTS}.index.json", {"weight_map": [1]}), "names no files"),
    "vae: no latents": (change(VAE, latent_channels=0), "load the vae"),
    "vae: no scale": (change(VAE, scaling_factor=None), "load the model"),
    "vae: scale of zero": (change(VAE, scaling_factor=0), "have scale 0.0"),
    "vae: no activation": (change(VAE, act_fn="loud"), "load the vae"),
    "vae: 3,000 layers": (change(VAE, layers_per_block=3000), "load the vae .*3000 layers"),
    "text: no heads": (change(TEXT, num_attention_heads=0), "load the text_encoder"),
    "text: no width": (change(TEXT, hidden_size=0), "load the text_encoder"),
    "text: width of a text": (change(TEXT, hidden_size="wide"), "load the text_encoder"),
    "text: no activation": (change(TEXT, hidden_act="loud"), "load the text_encoder"),
    "text: quantized": (change(TEXT, quantization_config=QUANTIZED), "load the text_encoder .*quantized"),
    "text: 3,000 layers": (change(TEXT, num_hidden_layers=3000), "load the text_encoder .*3000 layers"),
    "text: a vocabulary of 10 billion": (change(TEXT, vocab_size=10**10), "load the text_encoder"),
    "text: no type of numbers": (change(TEXT, dtype="float99"), "load the text_encoder"),
    "text: pickle only": (pickled(TEXT_WEIGHTS, "pytorch_model.bin"), "load the text_encoder .*is a pickle"),
    "text: variant only": (rename(TEXT_WEIGHTS, "model.fp16.safetensors"), "load the text_encoder .*Rename that file"),
    "text: weights link nowhere": (link_nowhere, "load the text_encoder .*it has no model.safetensors"),
    "text: an adapter of another model": (
        add("text_encoder/adapter_config.json", {"base_model_name_or_path": "a/b", "peft_type": "LORA"}),
        "load the text_encoder .*an adapter of another model",
    ),
    "tokenizer: no vocabulary": (without_vocabulary, "load the tokenizer .*no vocabulary"),
    "tokenizer: an empty vocabulary": (put("tokenizer/tokenizer.json", {}), "load the tokenizer"),
    "tokenizer: a list": (put("tokenizer/tokenizer_config.json", [1]), "load the tokenizer"),
    "tokenizer: no length": (change("tokenizer/tokenizer_config.json", model_max_length=0), "reads 0 tokens"),
    "tokenizer: a length that is a text": (change("tokenizer/tokenizer_config.json", model_max_length="x"), "load the"),
    "scheduler: a list": (put(SCHEDULE, [1]), "load the scheduler .*is a list"),
    "scheduler: no schedule": (change(SCHEDULE, beta_schedule="steep"), "load the scheduler"),
    "scheduler: an unknown prediction": (
        change(SCHEDULE, prediction_type="foo"), "load the scheduler .*prediction_type is 'foo'"
    ),
    "scheduler: an unknown spacing": (
        change(SCHEDULE, timestep_spacing="foo"), "load the scheduler .*timestep_spacing is 'foo'"
    ),
    "scheduler: no timesteps": (change(SCHEDULE, num_train_timesteps=0), "load the scheduler .*0 timesteps"),
    "scheduler: 10 billion timesteps": (change(SCHEDULE, num_train_timesteps=10**10), "load the scheduler"),
    "scheduler: betas of a text": (change(SCHEDULE, trained_betas="x"), "load the scheduler"),
    "checker: 3,000 layers": (
        change(CHECKER, vision_config={"num_hidden_layers": 3000}), "load the safety_checker .*3000 layers"
    ),
    "checker: a list": (put(CHECKER, [1]), "load the safety_checker"),
    "checker: no patches": (change(CHECKER, vision_config={"patch_size": 0}), "load the safety_checker"),
    "extractor: a list": (put("feature_extractor/preprocessor_config.json", [1]), "load the feature_extractor"),
    "settings: a list": (lambda folder: (folder / "ip2p.json").write_text("[1]"), "ip2p.json"),
}  # fmt: skip


@pytest.fixture
def folder(guarded_folder: Path, tmp_path: Path) -> Path:
    """A model folder with a safety checker, to damage; files are links until they are replaced."""
    return Path(shutil.copytree(guarded_folder, tmp_path / "model", copy_function=os.link))


@pytest.mark.filterwarnings("ignore")  # of libraries, about what they are given
@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_folder_is_told_with_the_part(kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    damage, message = DAMAGED[kind]
    damage(folder)
    with pytest.raises(ModelError, match=message) as raised:
        load_backbone(folder)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 700


KERNELS = ("kernels-community/flash-attn2", "nobody/evil", "flash_attention_2")


@pytest.mark.parametrize("name", KERNELS)
def test_a_config_fetches_no_code(
    name: str, guarded_folder: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The attention of a network is chosen here, and a config's own is not looked for."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    code = {"AutoModel": "code.Evil", "AutoConfig": "code.Evil", "AutoTokenizer": ["code.Evil", None]}
    (folder / "text_encoder" / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    attention = {"attn_implementation": name, "_attn_implementation": name}
    for config in (TEXT, CHECKER, "tokenizer/tokenizer_config.json"):
        change(config, auto_map=code, trust_remote_code=True, **attention)(folder)
    vision = json.loads((folder / CHECKER).read_text())["vision_config"]
    change(CHECKER, vision_config=vision | attention)(folder)
    backbone, plain = load_backbone(folder), load_backbone(guarded_folder)
    assert torch.equal(backbone.encode_text(["night"]).tokens, plain.encode_text(["night"]).tokens)
    convert(guarded_folder, tmp_path / "one.safetensors")
    bare = tmp_path / "bare.safetensors"
    save_file(load_file(tmp_path / "one.safetensors"), bare)
    single = load_backbone(bare, config=folder)
    assert torch.equal(single.encode_text(["night"]).tokens, plain.encode_text(["night"]).tokens)
    assert not (tmp_path / "ran").exists()


class Evil:
    """A pickle that makes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("allow", [False, True])
@pytest.mark.parametrize("where", ["unet", "unet by an index", "text_encoder", "text_encoder by an index"])
def test_no_pickle_runs_code(where: str, allow: bool, folder: Path, tmp_path: Path) -> None:
    part = where.partition(" ")[0]
    file, bin = (UNET_WEIGHTS, "diffusion_pytorch_model.bin") if part == "unet" else (TEXT_WEIGHTS, "pytorch_model.bin")
    weights: dict[str, Any] = dict(load_file(folder / file))
    (folder / file).unlink()
    torch.save(weights | {"evil": Evil(tmp_path / "ran")}, folder / part / bin)
    if "index" in where:
        names = json.dumps({"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(weights, bin)})
        (folder / f"{file}.index.json").write_text(names)
    with pytest.raises(ModelError, match=f"load the {part} of" if allow else f"{bin} is a pickle.*allow_pickle"):
        load_backbone(folder, allow_pickle=allow)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("how", ["pickles", "an index of a pickle"])
def test_pickled_weights_are_read_with_leave(how: str, sd_editor_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(sd_editor_folder, tmp_path / "model"))
    if how == "pickles":
        pickled(UNET_WEIGHTS, "diffusion_pytorch_model.bin")(folder)
        pickled(TEXT_WEIGHTS, "pytorch_model.bin")(folder)
    else:
        index("part.bin")(folder)
    loaded, plain = load_backbone(folder, allow_pickle=True), load_backbone(sd_editor_folder)
    for part in ("unet", "text_encoder"):
        found, expected = getattr(loaded, part).state_dict(), getattr(plain, part).state_dict()
        assert found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)
    convert(folder, tmp_path / "one.safetensors", allow_pickle=True)


def test_a_single_file_is_not_built_by_a_config_of_3000_layers(sd_editor_folder: Path, tmp_path: Path) -> None:
    convert(sd_editor_folder, tmp_path / "one.safetensors")
    configs = Path(shutil.copytree(sd_editor_folder, tmp_path / "configs"))
    for config, message in ((TEXT, "text_encoder"), (UNET, "unet"), (VAE, "vae")):
        kept = (configs / config).read_text()
        change(config, num_hidden_layers=3000, layers_per_block=3000)(configs)
        with pytest.raises(ModelError, match=f"load the {message} of .*3000 layers"):
            load_backbone(tmp_path / "one.safetensors", config=configs)
        (configs / config).write_text(kept)
