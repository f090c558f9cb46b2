"""Checkpoints of the original layout: averaged and raw weights, old names, unexpected keys, and what a file says."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import init_empty_weights
from diffusers import DDIMScheduler, EulerDiscreteScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from ip2p.diffusion.sampling import make_scheduler
from ip2p.errors import ConfigError, ModelError
from ip2p.models.backbone import Backbone, load_backbone
from ip2p.models.checkpoint import flatten, restore_dots
from ip2p.models.convert import convert
from ip2p.models.key_names import CONV_IN, UNET, unet_names

EDITORS = ("sd_editor_folder", "sd2_editor_folder", "xl_editor_folder")
FULL_SIZE: dict[str, dict[str, Any]] = {
    "Stable Diffusion 1": {"cross_attention_dim": 768},
    "Stable Diffusion XL": {
        "block_out_channels": (320, 640, 1280), "transformer_layers_per_block": (1, 2, 10), "cross_attention_dim": 2048,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816,
    },
}  # fmt: skip


@pytest.fixture(params=EDITORS)
def folder(request: pytest.FixtureRequest) -> Path:
    """An editor of each family."""
    path: Path = request.getfixturevalue(request.param)
    return path


@pytest.fixture
def weights(folder: Path, tmp_path: Path) -> dict[str, Tensor]:
    """The weights of an editor by their original names."""
    convert(folder, tmp_path / "whole.safetensors")
    return load_file(tmp_path / "whole.safetensors")


def averaged(weights: dict[str, Tensor], factor: float = 0.5) -> dict[str, Tensor]:
    """The moving average of a training: names without dots."""
    unet = {key: value for key, value in weights.items() if key.startswith(UNET)}
    found = {"model_ema." + key[len("model.") :].replace(".", ""): factor * value for key, value in unet.items()}
    return found | {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(22000)}


def load(tensors: dict[str, Tensor], folder: Path, path: Path, **options: Any) -> Backbone:
    save_file({key: value.clone() for key, value in tensors.items()}, path)
    return load_backbone(path, config=folder, **options)


def test_the_moving_average_is_used_where_there_is_one(
    weights: dict[str, Tensor], folder: Path, tmp_path: Path
) -> None:
    both, file = weights | averaged(weights), tmp_path / "both.safetensors"
    plain = load_backbone(folder)
    for choice, factor in ((None, 0.5), ("ema", 0.5), ("raw", 1.0)):
        loaded = load(both, folder, file, weights=choice)
        assert loaded.weights == (choice or "ema")
        for key, value in plain.unet.state_dict().items():
            assert torch.equal(loaded.unet.state_dict()[key], factor * value)
        assert torch.equal(loaded.vae.decoder.conv_in.weight, plain.vae.decoder.conv_in.weight)
    only = {key: value for key, value in both.items() if not key.startswith(UNET)}
    loaded = load(only, folder, file)
    assert loaded.weights == "ema"
    assert torch.equal(loaded.unet.conv_out.weight, 0.5 * plain.unet.conv_out.weight)
    assert load(weights, folder, file).weights is None


def test_weights_that_are_not_there_are_told(weights: dict[str, Tensor], folder: Path, tmp_path: Path) -> None:
    both, file = weights | averaged(weights), tmp_path / "file.safetensors"
    only = {key: value for key, value in both.items() if not key.startswith(UNET)}
    short = {key: value for key, value in both.items() if not key.startswith("model_ema.diffusion_modelout2")}
    for found, choice, message in (
        (only, "raw", r"has a moving average \(EMA\) only. Leave out weights"),
        (weights, "ema", "one kind of weights, and does not say which. Leave out weights"),
        (weights, "raw", "one kind of weights, and does not say which"),
        (short, None, r"lacks 2 weights of the UNet, such as .*\.out\.2\.bias. Give weights=raw"),
    ):
        with pytest.raises(ModelError, match=message):
            load(found, folder, file, weights=choice)
    assert load(short, folder, file, weights="raw").weights == "raw"
    other: Any = "mean"
    with pytest.raises(ConfigError, match="weights=mean is neither ema nor raw. Give weights=ema or weights=raw"):
        load_backbone(file, weights=other)


@pytest.mark.parametrize("family", FULL_SIZE)
def test_names_without_dots_have_one_meaning(family: str) -> None:
    """For every weight of a UNet of full size."""
    with init_empty_weights():
        unet = UNet2DConditionModel(**FULL_SIZE[family])
    names = {UNET + name for name in unet_names(unet).values()}
    assert len({flatten(name) for name in names}) == len(names) > 600
    assert all(restore_dots(flatten(name)) == name for name in names)
    assert restore_dots("model_ema.other0weight") == "model_ema.other0weight"


@pytest.mark.parametrize("target", ["out", "out.safetensors"])
@pytest.mark.parametrize(("choice", "factor"), [(None, 0.5), ("raw", 1.0)])
def test_a_conversion_writes_the_chosen_weights_only(
    target: str, choice: Any, factor: float, sd_editor_folder: Path, tmp_path: Path
) -> None:
    convert(sd_editor_folder, tmp_path / "whole.safetensors")
    found = load_file(tmp_path / "whole.safetensors")
    save_file(found | averaged(found), tmp_path / "both.safetensors")
    options: dict[str, Any] = {"config": sd_editor_folder, "weights": choice}
    assert convert(tmp_path / "both.safetensors", tmp_path / target, **options) == (choice or "ema")
    again = load_backbone(tmp_path / target)
    assert again.weights is None
    assert torch.equal(again.unet.conv_in.weight, factor * found[CONV_IN])


def test_a_folder_may_have_both_kinds(sd_editor_folder: Path, tmp_path: Path) -> None:
    """As the hub's folders of Stable Diffusion have."""
    folder = Path(shutil.copytree(sd_editor_folder, tmp_path / "model"))
    with pytest.raises(ModelError, match="one kind of weights"):
        load_backbone(folder, weights="raw")
    usual = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    raw = {key: 2 * value for key, value in usual.items()}
    save_file(raw, folder / "unet" / "diffusion_pytorch_model.non_ema.safetensors", metadata={"format": "pt"})
    for choice, expected, said in ((None, usual, "ema"), ("ema", usual, "ema"), ("raw", raw, "raw")):
        loaded = load_backbone(folder, weights=choice)
        assert loaded.weights == said and torch.equal(loaded.unet.conv_in.weight, expected["conv_in.weight"])


def rename(weights: dict[str, Tensor], old: str, new: str) -> dict[str, Tensor]:
    assert any(key.startswith(old) for key in weights)
    return {new + key.removeprefix(old) if key.startswith(old) else key: value for key, value in weights.items()}


@pytest.mark.parametrize(
    ("family", "now", "before"),
    [
        ("sd_editor_folder", "cond_stage_model.transformer.text_model.", "cond_stage_model.transformer."),
        ("sd_editor_folder", "cond_stage_model.", "conditioner.embedders.0."),
        ("sd2_editor_folder", "cond_stage_model.", "conditioner.embedders.0."),
        ("xl_editor_folder", "conditioner.embedders.0.transformer.text_model.", "conditioner.embedders.0.transformer."),
    ],
)
def test_text_encoders_under_old_names_are_found(
    family: str, now: str, before: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(family)
    convert(folder, tmp_path / "whole.safetensors")
    loaded = load(rename(load_file(tmp_path / "whole.safetensors"), now, before), folder, tmp_path / "old.safetensors")
    text = ["make it winter"]
    assert torch.equal(loaded.encode_text(text).tokens, load_backbone(folder).encode_text(text).tokens)


def test_unexpected_weights_are_counted(weights: dict[str, Tensor], folder: Path, tmp_path: Path) -> None:
    number, file = torch.zeros(1), tmp_path / "file.safetensors"
    harmless = [
        "alphas_cumprod_prev", "sqrt_one_minus_alphas_cumprod", "posterior_variance", "logvar", "global_step",
        "first_stage_model.loss.discriminator.main.0.weight", "first_stage_model.model_ema.decoderconv_inweight",
        "cond_stage_model.transformer.text_model.embeddings.position_ids", "cond_stage_model.logit_scale",
        "cond_stage_model.transformer.text_projection.weight", "denoiser.sigmas",
    ]  # fmt: skip
    if (folder / "text_encoder_2").is_dir():
        first, second = "conditioner.embedders.0.", "conditioner.embedders.1."
        harmless += [f"{first}transformer.text_model.embeddings.position_ids", f"{second}model.logit_scale"]
    load(weights | dict.fromkeys(harmless, number), folder, file)
    more = {
        f"{UNET}input_blocks.9.1.transformer_blocks.0.attn1.to_q.weight": number, "control_model.zero_convs.0": number,
        "model_ema.diffusion_modelcontrolweight": number,
    }  # fmt: skip
    for key in more:
        with pytest.raises(ModelError, match=f"has 1 weights that the model has no place for, such as {key}"):
            load(weights | (averaged(weights) if "ema" in key else {}) | {key: number}, folder, file)
    with pytest.raises(ModelError, match="has 2 weights that .*such as control_model.zero_convs.0. Give config=FOLDER"):
        load(weights | dict(list(more.items())[:2]), folder, file)


def test_the_last_layer_of_a_clip_of_stable_diffusion_2_is_left_out(sd2_editor_folder: Path, tmp_path: Path) -> None:
    """Its text encoder gives the layer before it."""
    convert(sd2_editor_folder, tmp_path / "whole.safetensors")
    found, start = load_file(tmp_path / "whole.safetensors"), "cond_stage_model.model.transformer.resblocks."
    last = {key.replace(f"{start}0.", f"{start}1."): value.clone() for key, value in found.items() if start in key}
    assert last
    load(found | last, sd2_editor_folder, tmp_path / "file.safetensors")
    far = {key.replace(f"{start}0.", f"{start}2."): value.clone() for key, value in found.items() if start in key}
    with pytest.raises(ModelError, match=f"has {len(far)} weights that"):
        load(found | far, sd2_editor_folder, tmp_path / "file.safetensors")


def test_what_a_file_says_of_its_prediction_counts(xl_editor_folder: Path, tmp_path: Path) -> None:
    convert(xl_editor_folder, tmp_path / "whole.safetensors")
    found, file, none = load_file(tmp_path / "whole.safetensors"), tmp_path / "file.safetensors", torch.zeros(0)

    def config_of(more: dict[str, Tensor], header: dict[str, str] | None = None) -> Any:
        save_file(found | more, file, metadata=header)
        return load_backbone(file, config=xl_editor_folder).scheduler.config

    assert config_of({}).prediction_type == "epsilon"
    assert config_of({"v_pred": none}).prediction_type == "v_prediction"
    assert not config_of({"v_pred": none}).rescale_betas_zero_snr
    both = config_of({"v_pred": none, "ztsnr": none})
    assert both.rescale_betas_zero_snr and both.timestep_spacing == "trailing"
    assert config_of({}, {"modelspec.prediction_type": "v"}).prediction_type == "v_prediction"
    assert config_of({"v_pred": none}, {"modelspec.prediction_type": "epsilon"}).prediction_type == "v_prediction"
    for key in ("edm_vpred.sigma_max", "edm_mean"):
        with pytest.raises(ModelError, match=f"noise levels of EDM .it has {key}.*does not sample"):
            config_of({key: torch.ones(1)})


def test_a_noise_schedule_in_a_file_counts(sd_editor_folder: Path, tmp_path: Path) -> None:
    convert(sd_editor_folder, tmp_path / "whole.safetensors")
    found, file = load_file(tmp_path / "whole.safetensors"), tmp_path / "file.safetensors"
    own = load_backbone(sd_editor_folder).scheduler.alphas_cumprod
    same = load(found | {"alphas_cumprod": own.half()}, sd_editor_folder, file)
    assert same.scheduler.config.trained_betas is None
    other = DDIMScheduler(beta_start=0.0001, beta_end=0.02, beta_schedule="linear").alphas_cumprod
    loaded = load(found | {"alphas_cumprod": other}, sd_editor_folder, file)
    for name in ("ddim", "euler", "pndm"):
        made = make_scheduler(loaded.scheduler, name)
        torch.testing.assert_close(made.alphas_cumprod, other, atol=1e-5, rtol=1e-4)
    convert(file, tmp_path / "again.safetensors", config=sd_editor_folder)
    again = load_backbone(tmp_path / "again.safetensors").scheduler
    torch.testing.assert_close(again.alphas_cumprod, other, atol=1e-5, rtol=1e-4)


def test_pure_noise_needs_a_scheduler_that_knows_it(sd_editor_folder: Path, tmp_path: Path) -> None:
    """The folder's own PNDM does not."""
    convert(sd_editor_folder, tmp_path / "whole.safetensors")
    marks = {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}
    loaded = load(load_file(tmp_path / "whole.safetensors") | marks, sd_editor_folder, tmp_path / "file.safetensors")
    assert isinstance(loaded.scheduler, EulerDiscreteScheduler)
    assert make_scheduler(loaded.scheduler, "ddim").alphas_cumprod[-1] == 0
    for name in ("pndm", "heun"):
        with pytest.raises(ConfigError, match=f"scheduler={name} cannot start from pure noise.*euler_a"):
            make_scheduler(loaded.scheduler, name)


@pytest.mark.parametrize(
    ("options", "keys"),
    [
        ({}, set()),
        ({"prediction_type": "v_prediction"}, {"v_pred"}),
        ({"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}, {"v_pred", "ztsnr"}),
    ],
)
def test_a_file_of_sdxl_has_the_keys_that_comfyui_looks_for(
    options: dict[str, Any], keys: set[str], xl_editor_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(xl_editor_folder, tmp_path / "model"))
    scheduler = EulerDiscreteScheduler.from_pretrained(folder / "scheduler")
    EulerDiscreteScheduler.from_config(scheduler.config, **options).save_pretrained(folder / "scheduler")
    convert(folder, tmp_path / "one.safetensors")
    found = load_file(tmp_path / "one.safetensors")
    assert {"v_pred", "ztsnr"} & found.keys() == keys
    save_file(found, tmp_path / "bare.safetensors")  # without configs in its header
    original = load_backbone(folder).scheduler.config
    for file, config in (("one", None), ("bare", xl_editor_folder)):
        read = load_backbone(tmp_path / f"{file}.safetensors", config=config).scheduler.config
        assert read.prediction_type == original.prediction_type
        assert read.rescale_betas_zero_snr == original.rescale_betas_zero_snr
    assert load_backbone(tmp_path / "one.safetensors").scheduler.config == original
