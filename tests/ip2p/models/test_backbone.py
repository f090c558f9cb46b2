"""Models in parts: what they do is what diffusers' pipelines do with them, and broken ones are told apart."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLInstructPix2PixPipeline, UNet2DConditionModel

from ip2p.diffusion.sampling import make_scheduler
from ip2p.errors import ModelError
from ip2p.models import bundled
from ip2p.models.backbone import load_backbone, save_backbone
from ip2p.models.bundled import bundled_path
from ip2p.models.convert import convert
from ip2p.models.hashes import fingerprint_model
from ip2p.settings import SCHEDULERS

FOLDERS = ("base_folder", "editor_folder", "sd_base_folder", "sd_editor_folder", "xl_base_folder", "xl_editor_folder")
LONG = "make it winter with snow on the castle"


@pytest.fixture(params=FOLDERS)
def folder(request: pytest.FixtureRequest) -> Path:
    """Each of the tiny models."""
    path: Path = request.getfixturevalue(request.param)
    return path


@pytest.fixture
def copied(base_folder: Path, tmp_path: Path) -> Path:
    """A model folder to damage."""
    return Path(shutil.copytree(base_folder, tmp_path / "model"))


def test_sizes_and_kinds(folder: Path) -> None:
    backbone = load_backbone(folder)
    assert (backbone.latent_channels, backbone.downscale, backbone.image_size) == (4, 4, 32)
    assert backbone.is_editor == ("Pix2Pix" in (folder / "model_index.json").read_text())
    assert backbone.device == torch.device("cpu") and backbone.dtype == torch.float32
    assert not any(p.requires_grad for part in (backbone.vae, backbone.unet) for p in part.parameters())


def test_conditions_are_modes_and_targets_are_scaled_samples(sd_base_folder: Path) -> None:
    backbone = load_backbone(sd_base_folder)
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    posterior = backbone.vae.encode(x).latent_dist
    torch.testing.assert_close(backbone.encode_condition(x), posterior.mode())
    mean, std = backbone.target_posterior(x)
    torch.testing.assert_close(mean, posterior.mean * 0.18215)
    torch.testing.assert_close(std, posterior.std * 0.18215)
    noise = torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(3))
    sampled = backbone.encode_target(x, [torch.Generator().manual_seed(seed) for seed in (3, 4)])
    torch.testing.assert_close(sampled[0], mean[0] + std[0] * noise)
    torch.testing.assert_close(backbone.encode_target(x), mean)


def test_an_autoencoder_without_posterior_has_one_latent(base_folder: Path) -> None:
    backbone = load_backbone(base_folder)
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    latents = backbone.vae.encode(x).latents
    mean, std = backbone.target_posterior(x)
    assert torch.equal(mean, latents) and torch.equal(backbone.encode_condition(x), latents) and not std.any()
    assert torch.equal(backbone.encode_target(x, [torch.Generator()] * 2), latents)


def test_shift_and_scale_of_an_autoencoder_are_undone_before_decoding(sd_base_folder: Path) -> None:
    backbone = load_backbone(sd_base_folder)
    backbone.vae.register_to_config(scaling_factor=0.5, shift_factor=2.0)
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    mode = backbone.encode_condition(x)
    torch.testing.assert_close(backbone.encode_target(x), (mode - 2) * 0.5)
    torch.testing.assert_close(backbone.decode((mode - 2) * 0.5), backbone.vae.decode(mode).sample.clamp(-1, 1))


def test_texts_become_the_embeddings_of_diffusers(base_folder: Path) -> None:
    backbone = load_backbone(base_folder)
    pipeline = StableDiffusionPipeline.from_pretrained(base_folder)
    expected, null = pipeline.encode_prompt(["make it winter", "a barn"], torch.device("cpu"), 1, True)
    torch.testing.assert_close(backbone.encode_text(["make it winter", "a barn"]).tokens, expected)
    torch.testing.assert_close(backbone.encode_text([""]).tokens, null[:1])


def test_what_is_too_long_is_cut_as_the_tokenizer_cuts_and_told(base_folder: Path) -> None:
    backbone = load_backbone(base_folder)
    with pytest.warns(UserWarning, match="not read: 'e castle' of 'make it winter"):
        ids = backbone.tokenize(["night", LONG])
    expected = backbone.tokenizer(["night", LONG], padding="max_length", truncation=True, return_tensors="pt")
    assert torch.equal(ids, expected.input_ids)


def test_half_precision_computes_and_answers_in_fp32(sd_editor_folder: Path) -> None:
    exact, half = load_backbone(sd_editor_folder), load_backbone(sd_editor_folder, dtype=torch.bfloat16)
    x, t = torch.randn(1, 8, 8, 8), torch.tensor(500)
    predicted = half.predict(x, t, half.encode_text(["night"]))
    assert half.dtype == torch.bfloat16 and predicted.dtype == torch.float32
    torch.testing.assert_close(predicted, exact.predict(x, t, exact.encode_text(["night"])), atol=0.2, rtol=0.2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_saved_and_loaded_it_is_the_same_model(folder: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    backbone = load_backbone(folder)
    before = backbone.unet.conv_in.weight.clone()
    kind = backbone.pipeline_class
    extra = {"ip2p.json": '{"steps": 7, "text_scale": 3}', "README.md": "a card"}
    save_backbone(backbone, tmp_path / "saved", pipeline_class=kind, dtype=dtype, extra=extra)
    again = load_backbone(tmp_path / "saved", want="editor" if backbone.is_editor else "base")
    assert torch.equal(backbone.unet.conv_in.weight, before)
    own = next(
        name for name in SCHEDULERS if type(make_scheduler(backbone.scheduler, name)) is type(backbone.scheduler)
    )
    assert again.own_settings == {"steps": 7, "text_scale": 3, "scheduler": own} and again.dtype == torch.float32
    assert again.settings.steps == 7 and again.settings.scheduler == own
    for part in ("vae", "text_encoder", "unet", *(["text_encoder_2"] if backbone.is_xl else [])):
        old, new = getattr(backbone, part).state_dict(), getattr(again, part).state_dict()
        assert old.keys() == new.keys()
        assert all(torch.equal(old[key].to(dtype).float(), new[key]) for key in old)
    index = json.loads((tmp_path / "saved" / "model_index.json").read_text())
    assert index["_class_name"] == kind and index.get("safety_checker", [None, None]) == [None, None]
    assert not list(tmp_path.glob(".*"))


def test_a_save_that_fails_leaves_what_was_there(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = load_backbone(copied)

    def full(*args: object, **kwargs: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("ip2p.models.folder.save_file", full)
    with pytest.raises(OSError, match="no space"):
        save_backbone(backbone, copied, pipeline_class="StableDiffusionPipeline")
    load_backbone(copied)
    assert [path.name for path in copied.parent.iterdir()] == ["model"]


def test_models_of_the_other_kind_are_refused(base_folder: Path, editor_folder: Path) -> None:
    with pytest.raises(ModelError, match="takes 4 channels, not 8.*ip2p finetune"):
        load_backbone(base_folder, want="editor")
    with pytest.raises(ModelError, match="takes 8 channels, not 4.*storybook-base"):
        load_backbone(editor_folder, want="base")


def mixed(folder: Path, target: Path, other: Path, part: str = "unet") -> Path:
    """A model folder with a part of another model."""
    shutil.copytree(folder, target)
    shutil.rmtree(target / part)
    shutil.copytree(other / part, target / part)
    return target


def test_parts_of_several_families_are_refused_with_expected_and_got(
    sd_editor_folder: Path, xl_editor_folder: Path, tmp_path: Path
) -> None:
    wide = UNet2DConditionModel.from_pretrained(sd_editor_folder / "unet")
    UNet2DConditionModel.from_config(wide.config, in_channels=9).save_pretrained(tmp_path / "nine" / "unet")
    UNet2DConditionModel.from_config(wide.config, cross_attention_dim=24).save_pretrained(tmp_path / "texts" / "unet")
    for name, folder, other, message in (
        ("a", sd_editor_folder, tmp_path / "nine", "takes 9 channels, not 8 .it is made for inpainting.. Give an edi"),
        ("b", sd_editor_folder, tmp_path / "texts", "expects texts of width 24, not 16. Give a whole model"),
        ("c", sd_editor_folder, xl_editor_folder, "expects SDXL's two text encoders, not one. Give a whole model"),
        ("d", xl_editor_folder, sd_editor_folder, "expects one text encoder, not SDXL's two. Give a whole model"),
    ):
        with pytest.raises(ModelError, match=message):
            load_backbone(mixed(folder, tmp_path / name, other), want="editor")


@pytest.mark.parametrize("zero", [True, False])
def test_sdxl_is_told_texts_and_sizes_as_in_diffusers(xl_editor_folder: Path, tmp_path: Path, zero: bool) -> None:
    folder = Path(shutil.copytree(xl_editor_folder, tmp_path / "model"))
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"force_zeros_for_empty_prompt": zero}))
    backbone, pipeline = load_backbone(folder), StableDiffusionXLInstructPix2PixPipeline.from_pretrained(folder)
    texts = ["make it winter", "a barn"]
    empty = None if zero else ["", ""]  # a list, or diffusers refuses to encode the empty text of two texts
    encoded = pipeline.encode_prompt(texts, device=torch.device("cpu"), negative_prompt=empty)
    tokens, no_tokens, pooled, no_pooled = encoded
    rows, none = backbone.encode_text(texts), backbone.encode_text([""])
    torch.testing.assert_close((rows.tokens, rows.pooled), (tokens, pooled))
    torch.testing.assert_close((none.tokens, none.pooled), (no_tokens[:1], no_pooled[:1]))
    assert bool(none.tokens.any()) == (not zero)
    x, t = torch.randn(2, 8, 8, 6), torch.tensor(500)
    sizes = torch.tensor([[32.0, 24, 0, 0, 32, 24]] * 2)
    added = {"text_embeds": pooled, "time_ids": sizes}
    expected = pipeline.unet(x, t, encoder_hidden_states=tokens, added_cond_kwargs=added).sample
    torch.testing.assert_close(backbone.predict(x, t, rows), expected)


def test_what_is_no_model_is_told_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "weights.safetensors").write_bytes(b"\0" * 10)
    with pytest.raises(ModelError, match="there is no model .*nowhere.*hub id"):
        load_backbone(tmp_path / "nowhere")
    with pytest.raises(ModelError, match=r"has no model_index\.json"):
        load_backbone(tmp_path / "empty")
    with pytest.raises(ModelError, match="weights.safetensors is damaged"):
        load_backbone(tmp_path / "weights.safetensors")
    with pytest.raises(ModelError, match="there is no model nothing"):
        load_backbone("nothing")


def test_a_hub_model_without_a_network_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="there is no folder nobody/nothing-at-all.*hub.*network"):
        load_backbone("nobody/nothing-at-all")


def test_damaged_folders_are_told_apart(copied: Path) -> None:
    weights = copied / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match="cannot load the unet of the model .*is damaged"):
        load_backbone(copied)
    shutil.rmtree(copied / "unet")
    with pytest.raises(ModelError, match="no folder unet"):
        load_backbone(copied)
    (copied / "model_index.json").write_text("{")
    with pytest.raises(ModelError, match="not readable"):
        load_backbone(copied)


@pytest.mark.parametrize("part", ["text_encoder/model", "vae/diffusion_pytorch_model"])
def test_missing_weights_are_never_made_up(copied: Path, part: str) -> None:
    from safetensors.torch import load_file, save_file

    file = copied / f"{part}.safetensors"
    weights = load_file(file)
    weights.pop(sorted(weights)[0])
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match="cannot load the .* of the model .*it lacks the weight"):
        load_backbone(copied)


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("unet", ["diffusers", "FluxTransformer2DModel"], "FluxTransformer2DModel as its unet"),
        ("text_encoder_2", ["transformers", "CLIPTextModelWithProjection"], "None as its tokenizer_2"),
        ("scheduler", ["os", "system"], "system as its scheduler"),
        ("vae", ["my_code", "AutoencoderEvil"], "AutoencoderEvil as its vae"),
    ],
)
def test_other_families_are_refused_by_class(copied: Path, part: str, value: list[str], message: str) -> None:
    index = json.loads((copied / "model_index.json").read_text())
    (copied / "model_index.json").write_text(json.dumps(index | {part: value}))
    with pytest.raises(ModelError, match=message):
        load_backbone(copied)


@pytest.mark.parametrize("text", ["{", '{"steps": 0}', '{"scheduler": "magic"}'])
def test_settings_that_make_no_sense_are_told(copied: Path, text: str) -> None:
    (copied / "ip2p.json").write_text(text)
    with pytest.raises(ModelError, match=r"ip2p\.json"):
        load_backbone(copied)


def test_bundled_models_that_are_missing_say_how_to_make_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, base_folder: Path
) -> None:
    for name in ("storybook-clip-a", "storybook-base"):
        monkeypatch.setitem(bundled._FOLDERS, name, tmp_path / name)
    with pytest.raises(ModelError, match=r"storybook-clip-a.*train/storybook/base\.py"):
        bundled_path("storybook-clip-a")
    with pytest.raises(ModelError, match="no bundled model 'storybook'"):
        bundled_path("storybook")
    shutil.copytree(base_folder, tmp_path / "storybook-base")
    assert load_backbone("storybook-base", want="base").name == "storybook-base"


def test_a_path_with_brackets_works(sd_editor_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(sd_editor_folder, tmp_path / "models [v1] {a,b}*" / "m"))
    convert(folder, folder.with_name("one [2].safetensors"))
    convert(folder.with_name("one [2].safetensors"), folder.with_name("back [3]"))
    expected = load_backbone(sd_editor_folder).unet.conv_in.weight
    for name in ("m", "one [2].safetensors", "back [3]"):
        assert torch.equal(load_backbone(folder.with_name(name)).unet.conv_in.weight, expected)
        assert fingerprint_model(folder.with_name(name))
