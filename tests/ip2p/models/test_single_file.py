"""Single files: what comes out is what went in, whoever reads it, and what is no model is told with a remedy."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline, StableDiffusionXLInstructPix2PixPipeline
from diffusers.loaders.single_file_utils import fetch_diffusers_config
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ip2p import Editor
from ip2p.errors import ConfigError, ModelError
from ip2p.models.backbone import load_backbone
from ip2p.models.convert import convert
from ip2p.models.folder import NETWORKS
from ip2p.models.key_names import CONV_IN
from ip2p.models.loading import quiet

PeerScheduler = Callable[[Any, str], Any]
EDITORS = ("sd_editor_folder", "sd2_editor_folder", "xl_editor_folder")
NOISE = Image.effect_noise((32, 32), 100).convert("RGB")


@pytest.fixture(params=EDITORS)
def folder(request: pytest.FixtureRequest) -> Path:
    """An editor of each family."""
    path: Path = request.getfixturevalue(request.param)
    return path


@pytest.fixture(scope="module")
def file(sd_editor_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A single file of Stable Diffusion 1's classes."""
    path = tmp_path_factory.mktemp("file") / "editor.safetensors"
    convert(sd_editor_folder, path)
    return path


def assert_same_weights(one: Any, two: Any) -> None:
    for part in NETWORKS:
        first, second = getattr(one, part, None), getattr(two, part, None)
        assert (first is None) == (second is None)
        weights, others = (each.state_dict() if each is not None else {} for each in (first, second))
        assert weights.keys() == others.keys() and all(torch.equal(weights[key], others[key]) for key in weights)


def test_there_and_back_nothing_changes(folder: Path, tmp_path: Path) -> None:
    convert(folder, tmp_path / "one.safetensors")
    convert(tmp_path / "one.safetensors", tmp_path / "again")
    original = load_backbone(folder)
    assert_same_weights(original, load_backbone(tmp_path / "one.safetensors", want="editor"))
    again = load_backbone(tmp_path / "again", want="editor")
    assert_same_weights(original, again)
    assert again.zero_empty_text == original.zero_empty_text
    assert again.scheduler.config.prediction_type == original.scheduler.config.prediction_type
    texts = ["make it winter", ""]
    assert torch.equal(again.encode_text(texts).tokens, original.encode_text(texts).tokens)
    assert not list(tmp_path.glob(".*"))


def test_a_converted_file_draws_the_same_picture_in_diffusers(
    folder: Path, tmp_path: Path, peer_scheduler: PeerScheduler
) -> None:
    xl = (folder / "text_encoder_2").is_dir()
    family = StableDiffusionXLInstructPix2PixPipeline if xl else StableDiffusionInstructPix2PixPipeline
    convert(folder, tmp_path / "editor.safetensors")
    with quiet():
        pipeline = family.from_single_file(
            str(tmp_path / "editor.safetensors"), config=str(folder), local_files_only=True
        )
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = peer_scheduler(pipeline.scheduler, "euler_a")
    theirs = pipeline(
        "make it winter", image=NOISE, num_inference_steps=3, guidance_scale=2.0, output_type="latent",
        generator=torch.Generator().manual_seed(5), **({"height": 32, "width": 32} if xl else {}),
    ).images  # fmt: skip
    seen: list[torch.Tensor] = []
    editor = Editor.from_pretrained(str(folder), device="cpu")
    settings: dict[str, Any] = {"steps": 3, "seeds": 5, "scheduler": "euler_a", "text_scale": 2.0}
    editor.edit(NOISE, "make it winter", on_step=lambda _, x: seen.append(x), **settings)
    assert (seen[-1] - theirs).abs().max() <= 1e-4 * theirs.abs().max()


def test_a_file_of_an_editor_is_known_by_its_eight_channels(file: Path) -> None:
    assert fetch_diffusers_config(load_file(file))["pretrained_model_name_or_path"] == "timbrooks/instruct-pix2pix"


def test_a_file_has_configs_and_tokenizer_in_its_header(file: Path, sd_editor_folder: Path) -> None:
    with safe_open(file, framework="pt") as opened:
        texts = json.loads(opened.metadata()["ip2p"])
    assert texts["tokenizer/tokenizer.json"] == (sd_editor_folder / "tokenizer" / "tokenizer.json").read_text()
    assert {"model_index.json", "unet/config.json", "scheduler/scheduler_config.json"} <= set(texts)


def test_a_file_without_texts_takes_those_of_a_folder(
    file: Path, sd_editor_folder: Path, sd_base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    bare = tmp_path / "bare.safetensors"
    save_file(load_file(file), bare)
    with pytest.raises(ModelError, match="weights only.*timbrooks/instruct-pix2pix.*config=FOLDER"):
        load_backbone(bare)
    for config in (sd_editor_folder, sd_base_folder):  # a text-to-image model's configs serve an editor
        assert_same_weights(load_backbone(sd_editor_folder), load_backbone(bare, want="editor", config=config))
    lacking = Path(shutil.copytree(sd_editor_folder, tmp_path / "lacking"))
    shutil.rmtree(lacking / "tokenizer")
    with pytest.raises(ModelError, match="it has no folder tokenizer"):
        load_backbone(bare, config=lacking)


def test_pickles_are_read_with_leave_and_weights_only(file: Path, sd_editor_folder: Path, tmp_path: Path) -> None:
    torch.save({"state_dict": load_file(file), "step": 3}, tmp_path / "good.ckpt")
    torch.save({"state_dict": load_file(file), "callback": Path("x")}, tmp_path / "code.ckpt")
    with pytest.raises(ModelError, match="is a pickle.*allow_pickle"):
        load_backbone(tmp_path / "good.ckpt", config=sd_editor_folder)
    loaded = load_backbone(tmp_path / "good.ckpt", config=sd_editor_folder, allow_pickle=True)
    assert_same_weights(load_backbone(sd_editor_folder), loaded)
    with pytest.raises(ModelError, match="has more than weights"):
        load_backbone(tmp_path / "code.ckpt", config=sd_editor_folder, allow_pickle=True)


def test_files_that_are_no_whole_model_are_told(
    file: Path, xl_editor_folder: Path, sd_editor_folder: Path, tmp_path: Path
) -> None:
    weights = load_file(file)
    (tmp_path / "torn.safetensors").write_bytes(file.read_bytes()[:-100])
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    lacking = {key: value for key, value in weights.items() if "middle_block.1.norm" not in key}
    save_file(lacking, tmp_path / "lacking.safetensors")
    save_file(weights, tmp_path / "editor.safetensors")
    for name, config, message in (
        ("torn.safetensors", None, "is damaged"),
        ("model.gguf", None, "is a .gguf file, not .safetensors"),
        ("other.safetensors", sd_editor_folder, f"no {CONV_IN}, so it is not a whole model"),
        ("lacking.safetensors", sd_editor_folder, "load the unet of .*it lacks 2 weights, such as mid_block"),
        ("editor.safetensors", xl_editor_folder, "cannot load the text_encoder of .*it lacks 16 weights"),
    ):
        with pytest.raises(ModelError, match=message):
            load_backbone(tmp_path / name, config=config)


def test_a_header_writes_nowhere_else(file: Path, tmp_path: Path) -> None:
    save_file(load_file(file), tmp_path / "evil.safetensors", metadata={"ip2p": json.dumps({"../evil.json": "x"})})
    with pytest.raises(ModelError, match=r"names a file '\.\./evil\.json'"):
        load_backbone(tmp_path / "evil.safetensors")


def test_conversions_that_cannot_be_leave_nothing(editor_folder: Path, file: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="an AutoencoderTiny, and the original layout.*Keep this model as a folder"):
        convert(editor_folder, tmp_path / "out" / "tiny.safetensors")
    with pytest.raises(ConfigError, match="would replace .* or a part of it"):
        convert(file, file)
    with pytest.raises(ConfigError, match="written as .safetensors"):
        convert(file, tmp_path / "model.ckpt")
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize("target", ["half.safetensors", "half"])
def test_numbers_may_be_of_another_kind(file: Path, tmp_path: Path, target: str) -> None:
    convert(file, tmp_path / target, dtype=torch.float16)
    half, whole = load_backbone(tmp_path / target), load_backbone(file)
    assert torch.equal(half.unet.conv_in.weight, whole.unet.conv_in.weight.half().float())
    convert(tmp_path / target, tmp_path / "kept.safetensors")
    assert load_file(tmp_path / "kept.safetensors")[CONV_IN].dtype == torch.float16
