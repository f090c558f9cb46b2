"""The editor is diffusers' pipeline where that one is right, and keeps order, seeds and sizes where it does not."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline, StableDiffusionXLInstructPix2PixPipeline
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from ip2p import Edited, Editor
from ip2p.errors import ConfigError, ImageError, InstructionError, ModelError
from ip2p.models.backbone import load_backbone, save_backbone
from ip2p.pictures.tensors import to_tensor
from ip2p.settings import PRESETS, SCHEDULERS, EditSettings

PeerScheduler = Callable[[Any, str], Any]


def picture(seed: int, size: tuple[int, int] = (32, 32)) -> Image.Image:
    """Smooth random colours."""
    rough = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(rough).resize(size, Image.Resampling.BICUBIC)


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def difference(ours: list[Edited], theirs: Any) -> float:
    """Largest difference of two lists of pictures, from 0 to 255."""
    pairs = zip(ours, theirs, strict=True)
    return max(float(np.abs(np.asarray(a.image, float) - np.asarray(b, float)).max()) for a, b in pairs)


@pytest.fixture(params=["editor_folder", "sd_editor_folder"])
def folder(request: pytest.FixtureRequest) -> Path:
    """v-prediction with AutoencoderTiny, and epsilon with AutoencoderKL."""
    path: Path = request.getfixturevalue(request.param)
    return path


@pytest.fixture(scope="module")
def editor(editor_folder: Path) -> Editor:
    return Editor.from_pretrained(str(editor_folder), device="cpu")


def latents_of(editor: Editor, images: list[Image.Image], texts: list[str], **settings: Any) -> Tensor:
    """The last latents of an edit."""
    seen: list[Tensor] = []
    editor.edit(images, texts, on_step=lambda _, x: seen.append(x), **settings)
    return seen[-1]


SCALES = ((7.5, 1.5), (3.0, 1.0), (2.0, 2.0))
PAIRWISE = [*((name, SCALES[row % 3]) for row, name in enumerate(SCHEDULERS)), ("euler_a", SCALES[2])]


@pytest.mark.slow
@pytest.mark.parametrize(("scheduler", "scales"), PAIRWISE)
def test_latents_are_those_of_diffusers(
    folder: Path, scheduler: str, scales: tuple[float, float], peer_scheduler: PeerScheduler
) -> None:
    editor = Editor.from_pretrained(str(folder), device="cpu")
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = peer_scheduler(pipeline.scheduler, scheduler)
    images, texts = [picture(1), picture(2), picture(3)], ["make it winter", "make it night", "add a barn"]
    theirs = pipeline(
        texts, [image.copy() for image in images], num_inference_steps=6, guidance_scale=scales[0],
        image_guidance_scale=scales[1], generator=generators(5, 6, 2**40), output_type="latent",
    ).images  # fmt: skip
    ours = latents_of(
        editor, images, texts, steps=6, text_scale=scales[0], image_scale=scales[1], seeds=[5, 6, 2**40],
        scheduler=scheduler,
    )  # fmt: skip
    assert ours.abs().max() > 0.5
    assert (ours - theirs).abs().max() <= 1e-5 * max(10, theirs.abs().max())  # random weights run away under LCM


@pytest.mark.parametrize("scheduler", ["euler_a", "dpm"])
def test_latents_of_sdxl_are_those_of_diffusers(
    xl_editor_folder: Path, scheduler: str, peer_scheduler: PeerScheduler
) -> None:
    editor = Editor.from_pretrained(str(xl_editor_folder), device="cpu")
    pipeline = StableDiffusionXLInstructPix2PixPipeline.from_pretrained(xl_editor_folder)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = peer_scheduler(pipeline.scheduler, scheduler)
    images, texts = [picture(1, (32, 24)), picture(2, (32, 24))], ["make it winter", "make it night"]
    theirs = pipeline(
        texts, image=images, num_inference_steps=4, guidance_scale=3.0, image_guidance_scale=1.5, width=32, height=24,
        generator=generators(5, 6), output_type="latent",
    ).images  # fmt: skip
    ours = latents_of(
        editor, images, texts, steps=4, text_scale=3.0, image_scale=1.5, seeds=[5, 6], scheduler=scheduler
    )
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


def test_a_saved_editor_draws_the_same_picture_in_diffusers(
    folder: Path, tmp_path: Path, peer_scheduler: PeerScheduler
) -> None:
    kind = "StableDiffusionInstructPix2PixPipeline"
    save_backbone(load_backbone(folder), tmp_path / "saved", pipeline_class=kind, dtype=torch.float16)
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(tmp_path / "saved")
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = peer_scheduler(pipeline.scheduler, "euler_a")
    image = picture(1)
    theirs = pipeline("make it winter", image, num_inference_steps=8, generator=generators(3)).images
    editor = Editor.from_pretrained(str(tmp_path / "saved"), device="cpu")
    ours = editor.edit(image, "make it winter", steps=8, seeds=3, scheduler="euler_a")
    assert difference(ours, theirs) <= 1


def test_the_condition_is_the_mode_and_no_image_is_zero(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    editor = Editor.from_pretrained(str(folder), device="cpu")
    seen: list[Tensor] = []
    predict = editor.backbone.predict

    def watched(x: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        seen.append(x[:, 4:])
        return predict(x, timestep, text)

    monkeypatch.setattr(editor.backbone, "predict", watched)
    editor.edit(picture(1), "make it winter", steps=1, seeds=1)
    encoded = editor.backbone.vae.encode(to_tensor([picture(1)]))
    mode = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
    torch.testing.assert_close(seen[0], torch.cat([mode, mode, torch.zeros_like(mode)]))


def test_the_order_is_image_instruction_sample(editor: Editor) -> None:
    one, two = picture(1), picture(2, (24, 40))
    made = editor.edit([one, two, one], "make it winter", seeds=[4, 9], samples=2, steps=2, batch=2)
    assert [each.seed for each in made] == [4, 9, 4, 9, 4, 9]
    assert [each.image.size for each in made] == [(32, 32)] * 2 + [(24, 40)] * 2 + [(32, 32)] * 2
    alone = [editor.edit(image, "make it winter", seeds=seed, steps=2)[0] for image in (one, two) for seed in (4, 9)]
    assert difference(made, [each.image for each in [*alone, *alone[:2]]]) <= 1
    assert difference(alone[:1], [alone[1].image]) > 1
    by_text = editor.edit(one, ["make it winter", "a cow"], seeds=[4, 9], samples=2, steps=2)
    assert [(each.parameters["instruction"], each.seed) for each in by_text] == [
        ("make it winter", 4), ("make it winter", 9), ("a cow", 4), ("a cow", 9),
    ]  # fmt: skip
    assert difference(by_text[:2], [each.image for each in alone[:2]]) <= 1


@pytest.mark.parametrize(
    ("counts", "seeds", "samples", "expected"),
    [
        ((1, 1), 7, None, [7]),
        ((1, 1), 7, 3, [7, 8, 9]),
        ((1, 1), [3, 1], None, [3, 1]),
        ((1, 3), [7], None, [7, 7, 7]),
        ((2, 2), [7, 8], None, [7, 8]),
        ((2, 2), [7, 8], 2, [7, 8, 7, 8]),
        ((2, 1), 7, 2, [7, 8, 7, 8]),
        ((2, 1), [1, 2, 3, 4], 2, [1, 2, 3, 4]),
    ],
)
def test_seeds_go_round(
    editor: Editor, counts: tuple[int, int], seeds: int | list[int], samples: int | None, expected: list[int]
) -> None:
    images, texts = [picture(row) for row in range(counts[0])], ["make it night"] * counts[1]
    assert [each.seed for each in editor.edit(images, texts, seeds=seeds, samples=samples, steps=1)] == expected


def test_drawn_seeds_are_told_and_make_the_picture_again(editor: Editor) -> None:
    first, second = editor.edit(picture(1), "make it winter", samples=2, steps=2)
    assert first.seed != second.seed
    again = editor.edit(picture(1), "make it winter", seeds=second.seed, steps=2)
    assert difference(again, [second.image]) <= 1


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_picture_depends_on_its_seed_alone(editor: Editor, scheduler: str) -> None:
    images, texts = [picture(row) for row in range(5)], [f"make it {row}" for row in range(5)]
    together = latents_of(editor, images, texts, seeds=[3, 1, 4, 1, 5], steps=4, scheduler=scheduler)
    alone = latents_of(editor, images[2:3], texts[2:3], seeds=4, steps=4, scheduler=scheduler)
    torch.testing.assert_close(together[2:3], alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [(32, 32), (31, 33), (300, 200), (16, 320), (17, 16), (128, 127)])
def test_pictures_of_any_size_come_back_in_their_size(editor: Editor, size: tuple[int, int]) -> None:
    (kept,) = editor.edit(picture(1, size), "make it winter", steps=1, seeds=1)
    (raw,) = editor.edit(picture(1, size), "make it winter", steps=1, seeds=1, keep_size=False)
    assert kept.image.size == size and kept.parameters["resolution"] == 32
    assert max(raw.image.size) == 32 and not any(side % 4 for side in raw.image.size)
    width, height = (side * 32 / max(size) for side in size)
    assert abs(raw.image.width - max(4, width)) <= 2 and abs(raw.image.height - max(4, height)) <= 2


@pytest.mark.parametrize("mode", ["RGBA", "L", "P", "1", "LA", "CMYK", "I;16"])
def test_pictures_of_any_mode_are_edited(editor: Editor, mode: str) -> None:
    source = picture(1, (40, 28)).convert("L").convert("I;16") if mode == "I;16" else picture(1, (40, 28)).convert(mode)
    (made,) = editor.edit(source, "make it winter", steps=1, seeds=1)
    assert (made.image.mode, made.image.size) == ("RGBA" if mode in ("RGBA", "LA") else "RGB", (40, 28))


def test_what_is_transparent_is_white(editor: Editor) -> None:
    glass = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    clear, white = (editor.edit(image, "a", steps=1, seeds=1) for image in (glass, Image.new("RGB", (32, 32), "white")))
    assert clear[0].image.convert("RGB").tobytes() == white[0].image.tobytes()


def test_transparency_comes_back_with_the_size(editor: Editor) -> None:
    glass = picture(1, (40, 28))
    glass.putalpha(picture(2, (40, 28)).convert("L"))
    (made,) = editor.edit(glass, "make it winter", steps=1, seeds=1)
    assert made.image.getchannel("A").tobytes() == glass.getchannel("A").tobytes()
    (native,) = editor.edit(glass, "make it winter", steps=1, seeds=1, keep_size=False)
    assert native.image.mode == "RGB"


def test_a_picture_that_lies_on_its_side_is_edited_upright(editor: Editor) -> None:
    lying = picture(1, (40, 28))
    lying.getexif()[0x0112] = 6
    made = editor.edit([lying, picture(1, (40, 28)).rotate(-90, expand=True)], "make it winter", steps=1, seeds=1)
    assert made[0].image.size == (28, 40)
    assert made[0].image.tobytes() == made[1].image.tobytes()


@pytest.mark.parametrize("size", [(15, 40), (16, 321), (1, 1)])
def test_sizes_that_make_no_sense_are_refused_before_the_first_step(editor: Editor, size: tuple[int, int]) -> None:
    steps: list[int] = []
    with pytest.raises(ImageError, match=f"the picture is {size[0]} x {size[1]} pixels"):
        editor.edit([picture(1), picture(1, size)], "a", steps=1, seeds=1, on_step=lambda step, _: steps.append(step))
    assert not steps


def test_another_resolution_is_another_working_size(editor: Editor) -> None:
    (made,) = editor.edit(picture(1, (64, 48)), "make it winter", steps=1, seeds=1, resolution=64, keep_size=False)
    assert made.image.size == (64, 48) and made.parameters["resolution"] == 64


def test_parameters_tell_everything(editor: Editor, editor_folder: Path) -> None:
    (made,) = editor.edit(picture(1), "make it winter", seeds=3, steps=2, text_scale=4.0, scheduler="ddim")
    versions = made.parameters.pop("versions")
    assert made.parameters == {
        "instruction": "make it winter", "seed": 3, "text_scale": 4.0, "image_scale": 1.5, "steps": 2,
        "scheduler": "ddim", "resolution": 32, "model": str(editor_folder), "precision": "fp32", "device": "cpu",
    }  # fmt: skip
    assert "ip2p 0" in versions and "diffusers" in versions and "torch" in versions


@pytest.mark.parametrize(("preset", "rows"), [("exact", 3 * 20), ("balanced", 20 + 7 + 4), ("fast", 8 + 4 + 2)])
def test_presets_say_what_rows_they_take(editor: Editor, preset: str, rows: int) -> None:
    (made,) = editor.edit(picture(1), "make it winter", seeds=3, preset=preset)
    assert made.unet_rows == rows
    chosen = {
        name: value
        for name, value in PRESETS[preset].settings.items()
        if value != EditSettings.model_fields[name].default
    }
    assert chosen.items() <= made.parameters.items()
    again = {name: made.parameters[name] for name in EditSettings.model_fields if name in made.parameters}
    assert difference(editor.edit(picture(1), "make it winter", seeds=3, **again), [made.image]) == 0


def test_presets_that_save_leave_a_models_guidance_as_it_is(editor: Editor) -> None:
    own = {"guidance_start": 0.2, "guidance_stop": 0.6, "rescale": 0.5}
    guided = Editor(dataclasses.replace(editor.backbone, own_settings=editor.backbone.own_settings | own))
    for preset, expected in [("balanced", own), ("fast", own), ("exact", {}), ("paper", {})]:
        (made,) = guided.edit(picture(1), "make it winter", seeds=3, preset=preset, steps=2)
        found = {name: made.parameters[name] for name in own if name in made.parameters}
        assert found == (expected or {"guidance_start": 0.0, "guidance_stop": 1.0, "rescale": 0.0}), preset


def test_what_is_asked_for_comes_before_the_preset(editor: Editor) -> None:
    (made,) = editor.edit(picture(1), "make it winter", seeds=3, preset="paper", steps=3, image_every=2)
    assert made.parameters["steps"] == 3 and made.unet_rows == 3 + 3 + 2


def test_deep_features_are_reused_between_and_left_alone_after(editor: Editor) -> None:
    (exact,) = editor.edit(picture(1), "make it winter", seeds=3, steps=4)
    calls = [0, 0]

    def counted(place: int, block: Any) -> Any:
        return block.register_forward_hook(lambda *_: calls.__setitem__(place, calls[place] + 1))

    unet = editor.backbone.unet
    hooks = [counted(0, unet.down_blocks[0]), counted(1, unet.mid_block.resnets[0])]
    (reused,) = editor.edit(picture(1), "make it winter", seeds=3, steps=4, reuse=2)
    for hook in hooks:
        hook.remove()
    assert calls == [4, 2] and difference([reused], [exact.image]) > 0
    assert difference(editor.edit(picture(1), "make it winter", seeds=3, steps=4), [exact.image]) == 0


def test_the_model_folder_brings_its_defaults(editor_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(editor_folder, tmp_path / "editor"))
    (folder / "ip2p.json").write_text('{"text_scale": 3, "steps": 2, "scheduler": "ddim", "resolution": 16}')
    editor = Editor.from_pretrained(str(folder), device="cpu")
    (made,) = editor.edit(picture(1), "make it winter", seeds=1, image_scale=1.0)
    chosen = ("text_scale", "image_scale", "steps", "scheduler", "resolution")
    assert [made.parameters[name] for name in chosen] == [3, 1, 2, "ddim", 16]


def test_half_precision_is_an_option_that_stands_in_the_parameters(editor_folder: Path) -> None:
    editor = Editor.from_pretrained(str(editor_folder), device="cpu", precision="bf16")
    (made,) = editor.edit(picture(1), "make it winter", steps=2, seeds=1)
    assert made.parameters["precision"] == "bf16"


def test_a_text_to_image_model_is_no_editor(base_folder: Path) -> None:
    with pytest.raises(ModelError, match="no editor"):
        Editor.from_pretrained(str(base_folder))
    with pytest.raises(ModelError, match="no editor"):
        Editor(load_backbone(base_folder))


@pytest.mark.parametrize(
    ("texts", "settings", "error", "message"),
    [
        (" ", {}, InstructionError, "is empty"),
        (["make it winter", ""], {}, InstructionError, "is empty"),
        ("a \udcff", {}, InstructionError, "is not UTF-8"),
        ("a", {"negative_prompt": "a \udcff"}, InstructionError, "the negative prompt .* is not UTF-8"),
        ([], {}, InstructionError, "2 images and 0 texts"),
        (["a", "b", "c"], {}, InstructionError, "2 images and 3 texts"),
        ("a", {"seeds": [1, 2, 3]}, InstructionError, "3 seeds for 2 edits of 1 samples each. Give 1 or 2"),
        ("a", {"samples": 0}, InstructionError, "0 samples"),
        ("a", {"seeds": 2**63 - 1, "samples": 2}, InstructionError, "leaves no seeds for 2 samples"),
        ("a", {"preset": "quick"}, ConfigError, "no preset 'quick'.*exact, balanced, fast, paper"),
        ("a", {"text_evry": 2}, ConfigError, "no setting 'text_evry'"),
        ("a", {"tolerance": -1.0}, ConfigError, "tolerance=-1.0.*0 or more"),
        ("a", {"tolerance": 0.1, "reuse": 2}, ConfigError, "tolerance.*reuse"),
        ("a", {"steps": 0}, ConfigError, "steps=0.*1 to 1000"),
        (
            "a",
            {"scheduler": "plms"},
            ConfigError,
            "scheduler='plms'.*euler_a, euler, heun, ddim, ddpm, pndm, dpm, dpm_karras, unipc, lcm",
        ),
        ("a", {"text_scale": float("nan")}, ConfigError, "text_scale=nan"),
        ("a", {"resolution": 4}, ConfigError, "resolution=4"),
    ],
)
def test_what_makes_no_sense_is_told(
    editor: Editor, texts: str | list[str], settings: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        editor.edit([picture(1), picture(2)], texts, **settings)


@pytest.mark.parametrize("part", ["unet.conv_in.weight", "vae.decoder"])
def test_weights_that_are_not_finite_are_told(editor_folder: Path, part: str) -> None:
    """Not as a black picture."""
    editor = Editor.from_pretrained(str(editor_folder), device="cpu")
    weights = {name: weight for name, weight in editor.backbone.named_weights() if name.startswith(part)}
    with torch.no_grad():
        next(iter(weights.values())).mul_(float("nan"))
    with pytest.raises(ModelError, match=f"the weights {part}.* are not finite"):
        editor.edit(picture(1), "make it winter", seeds=3, steps=2)


def test_an_overflow_is_told(editor: Editor) -> None:
    with pytest.raises(ModelError, match="the latents of .* are not finite in fp32. Give precision=bf16"):
        editor.edit(picture(1), "make it winter", seeds=3, steps=2, text_scale=1e38)


def test_guidance_that_ends_before_it_begins_is_refused(editor: Editor) -> None:
    with pytest.raises(ConfigError, match=r"guidance_start=0.6 is above guidance_stop=0.4"):
        editor.edit(picture(1), "make it winter", guidance_start=0.6, guidance_stop=0.4)


@pytest.mark.parametrize("preset", ["exact", "fast"])
def test_a_list_of_negative_prompts_has_one_for_each_picture(editor: Editor, preset: str) -> None:
    images, texts, negatives = [picture(1), picture(2)], ["make it winter", "make it night"], ["day", ""]
    options: dict[str, Any] = {"steps": 3, "preset": preset}
    both = editor.edit(images, texts, negative_prompt=negatives, seeds=[1, 2], **options)
    for place, edit in enumerate(both):
        alone = editor.edit_one(
            images[place], texts[place], negative_prompt=negatives[place], seed=place + 1, **options
        )
        assert np.abs(np.asarray(edit.image).astype(int) - np.asarray(alone.image)).max() <= 1
        assert edit.parameters.get("negative_prompt", "") == negatives[place]
    plain = editor.edit(images, texts, seeds=[1, 2], **options)
    assert plain[0].image != both[0].image and plain[1].image == both[1].image


def test_negative_prompts_of_another_number_are_refused(editor: Editor) -> None:
    with pytest.raises(InstructionError, match=r"3 negative prompts for 2 edits\. Give 1 or 2"):
        editor.edit(picture(1), ["a", "b"], negative_prompt=["x", "y", "z"])


@pytest.mark.parametrize("layer", ["to_q", "to_k", "to_v"])
def test_a_weight_that_attention_hides_is_told(editor_folder: Path, tmp_path: Path, layer: str) -> None:
    folder = Path(shutil.copytree(editor_folder, tmp_path / "model"))
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    name = next(name for name in weights if name.endswith(f"attn1.{layer}.weight"))
    weights[name][0, 0] = torch.nan
    save_file(weights, file)
    with pytest.raises(ModelError, match=f"the weights unet.{name} of .* are not finite"):
        Editor.from_pretrained(str(folder), device="cpu")
