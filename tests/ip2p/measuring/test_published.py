"""Published measures against plain computations of their definitions, and rows that lack what a measure needs."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer, Dinov2Config, Dinov2Model, ViTConfig, ViTModel

from ip2p.errors import ModelError
from ip2p.measuring.clip import OPENAI_MEAN, OPENAI_STD, ClipScorer
from ip2p.measuring.dino import IMAGENET_MEAN, IMAGENET_STD, Dino
from ip2p.measuring.published import count_undefined, emu_edit, find_lpips, kept_parts, magic_brush, pie_bench, psnr_of
from ip2p.measuring.ssim import ssim
from ip2p.storybook.edits import evaluation_cases
from ip2p.storybook.render import render

Array = npt.NDArray[np.float64]
SIDE = 64
COUNT = 3
CASES = evaluation_cases(COUNT, 5)
BEFORE, AFTER = ["a barn", "make it night", "a barn"], ["make it winter", "a barn", "a barn"]
"""Texts that the tokenizer of the tiny base model does not truncate."""


def small(image: Image.Image) -> Image.Image:
    return image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)


SOURCES = [small(render(case.scene)) for case in CASES]
TARGETS = [small(render(case.target)) for case in CASES]
NOISE = Image.effect_noise((SIDE, SIDE), 90).convert("RGB")
EDITED = [Image.blend(Image.blend(a, b, 0.7), NOISE, 0.1) for a, b in zip(SOURCES, TARGETS, strict=True)]
MASKS = [
    Image.radial_gradient("L").resize((SIDE, SIDE)).point(lambda level, k=k: 255 * (level < k)) for k in (60, 90, 150)
]


def pixels(image: Image.Image) -> Array:
    return np.asarray(image, np.float64) / 255


@pytest.fixture(scope="module")
def clip_folder(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random CLIP of 64 px, with the tokenizer of the tiny base model."""
    folder = tmp_path_factory.mktemp("clip")
    tokenizer = CLIPTokenizer.from_pretrained(base_folder / "tokenizer")
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = sizes | {
        "vocab_size": len(tokenizer), "max_position_embeddings": 32, "eos_token_id": len(tokenizer) - 1,
        "bos_token_id": len(tokenizer) - 2,
    }  # fmt: skip
    torch.manual_seed(3)
    config = CLIPConfig(
        text_config=text, vision_config=sizes | {"image_size": SIDE, "patch_size": 16}, projection_dim=16
    )
    model = CLIPModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # so that pictures differ
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def dino_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random DINO of 56 px."""
    folder = tmp_path_factory.mktemp("dino")
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    model = ViTModel(ViTConfig(image_size=56, patch_size=8, **sizes), add_pooling_layer=False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return folder


class PlainClip:
    """CLIP's features of one picture or text, as its authors compute them, and cosines in numpy."""

    def __init__(self, folder: Path) -> None:
        self.model: Any = CLIPModel.from_pretrained(folder)
        self.model.train(False)
        self.tokenizer = CLIPTokenizer.from_pretrained(folder)

    @torch.inference_mode()
    def image(self, image: Image.Image) -> Array:
        x = (pixels(image) - OPENAI_MEAN) / OPENAI_STD
        states = self.model.vision_model(torch.from_numpy(x).permute(2, 0, 1)[None].float()).pooler_output
        return unit(self.model.visual_projection(states)[0].double().numpy())

    @torch.inference_mode()
    def text(self, text: str) -> Array:
        tokens = self.tokenizer(text, padding="max_length", max_length=32, truncation=True, return_tensors="pt")
        states = self.model.text_model(**tokens).pooler_output
        return unit(self.model.text_projection(states)[0].double().numpy())


def unit(vector: Array) -> Array:
    return vector / np.linalg.norm(vector)


def plain_dino(folder: Path, image: Image.Image) -> Array:
    """Class token of a picture: short side to 8/7 of 56, the middle 56 of it."""
    model = ViTModel.from_pretrained(folder, add_pooling_layer=False)
    model.train(False)
    x = pixels(image.resize((64, 64), Image.Resampling.BICUBIC).crop((4, 4, 60, 60)))
    x = (x - IMAGENET_MEAN) / IMAGENET_STD
    with torch.inference_mode():
        return unit(model(torch.from_numpy(x).permute(2, 0, 1)[None].float()).last_hidden_state[0, 0].double().numpy())


def plain_ssim(x: Array, y: Array, where: npt.NDArray[np.bool_]) -> float:
    """Structural similarity, window by window."""
    line = np.exp(-((np.arange(11) - 5.0) ** 2) / (2 * 1.5**2))
    weights = np.outer(line, line) / line.sum() ** 2
    found = []
    for row in range(5, x.shape[0] - 5):
        for column in range(5, x.shape[1] - 5):
            if where[row, column]:
                for k in range(3):
                    a, b = (each[row - 5 : row + 6, column - 5 : column + 6, k] for each in (x, y))
                    m, n = (weights * a).sum(), (weights * b).sum()
                    v, w = (weights * (a - m) ** 2).sum(), (weights * (b - n) ** 2).sum()
                    c = (weights * (a - m) * (b - n)).sum()
                    found.append((2 * m * n + 1e-4) * (2 * c + 9e-4) / ((m**2 + n**2 + 1e-4) * (v + w + 9e-4)))
    return float(np.mean(found))


def test_magic_brush_is_its_definition(clip_folder: Path, dino_folder: Path) -> None:
    clip, dino = ClipScorer.from_pretrained(clip_folder), Dino.from_pretrained(dino_folder)
    found = magic_brush(EDITED, TARGETS, AFTER, clip=clip, dino=dino)
    plain = PlainClip(clip_folder)
    assert list(found) == ["L1", "L2", "CLIP-I", "DINO", "CLIP-T"]
    for row, (edited, target, text) in enumerate(zip(EDITED, TARGETS, AFTER, strict=True)):
        difference = pixels(edited) - pixels(target)
        expected = [
            np.abs(difference).mean(), (difference**2).mean(), plain.image(edited) @ plain.image(target),
            plain_dino(dino_folder, edited) @ plain_dino(dino_folder, target), plain.image(edited) @ plain.text(text),
        ]  # fmt: skip
        assert [found[name][row] for name in found] == pytest.approx(expected, abs=1e-6)


def test_emu_edit_is_its_definition(clip_folder: Path, dino_folder: Path) -> None:
    clip, dino = ClipScorer.from_pretrained(clip_folder), Dino.from_pretrained(dino_folder)
    found = emu_edit(SOURCES, EDITED, BEFORE, AFTER, clip=clip, dino=dino)
    plain = PlainClip(clip_folder)
    assert list(found) == ["CLIP_dir", "CLIP_im", "CLIP_out", "L1", "DINO"]
    for row, (source, edited, before, after) in enumerate(zip(SOURCES, EDITED, BEFORE, AFTER, strict=True)):
        first, second, text = plain.image(source), plain.image(edited), plain.text(after)
        change = unit(second - first) @ unit(text - plain.text(before)) if before != after else math.nan
        expected = [
            change, first @ second, second @ text, np.abs(pixels(source) - pixels(edited)).mean(),
            plain_dino(dino_folder, source) @ plain_dino(dino_folder, edited),
        ]  # fmt: skip
        assert [found[name][row] for name in found] == pytest.approx(expected, abs=2e-6, nan_ok=True)
    assert count_undefined(found) == {"CLIP_dir": 1}  # equal captions


def test_pie_bench_is_its_definition(dino_folder: Path) -> None:
    found = pie_bench(SOURCES, EDITED, MASKS, dino=Dino.from_pretrained(dino_folder), lpips=lambda x, y: float(x.sum()))
    assert list(found) == ["structure distance", "PSNR", "LPIPS", "MSE", "SSIM"]
    model: Any = ViTModel.from_pretrained(dino_folder, add_pooling_layer=False)
    model.train(False)

    def similarities(image: Image.Image) -> torch.Tensor:
        x = torch.from_numpy(pixels(image)).permute(2, 0, 1)[None].float()
        x = torch.nn.functional.interpolate(x, (56, 56), mode="bicubic", antialias=True).clamp(0, 1)
        x = (x - torch.tensor(IMAGENET_MEAN).view(3, 1, 1)) / torch.tensor(IMAGENET_STD).view(3, 1, 1)
        with torch.inference_mode():
            states = model.embeddings(x)
            last = model.layers[-1]
            for layer in model.layers[:-1]:
                states = layer(states)
            keys = last.attention.k_proj(last.layernorm_before(states))[0]
        return torch.nn.functional.cosine_similarity(keys[:, None], keys[None], dim=-1)

    for row, (source, edited, mask) in enumerate(zip(SOURCES, EDITED, MASKS, strict=True)):
        stays = (np.asarray(mask) < 128)[..., None]
        x, y = pixels(source) * stays, pixels(edited) * stays
        error = float(((x - y) ** 2).mean())
        whole = np.ones((SIDE, SIDE), bool)
        structure = float((similarities(source) - similarities(edited)).square().mean())
        expected = [structure, 10 * math.log10(1 / error), x.sum(), error, plain_ssim(x, y, whole)]
        assert [found[name][row] for name in found] == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_what_should_stay_is_compared_over_its_own_pixels() -> None:
    found = kept_parts(SOURCES, EDITED, MASKS)
    for row, (source, edited, mask) in enumerate(zip(SOURCES, EDITED, MASKS, strict=True)):
        stays = np.asarray(mask) < 128
        x, y = pixels(source), pixels(edited)
        error = ((x - y)[stays] ** 2).mean()
        assert found["PSNR kept"][row] == pytest.approx(10 * math.log10(1 / error), abs=1e-9)
        assert found["SSIM kept"][row] == pytest.approx(plain_ssim(x, y, stays), abs=1e-9)
    mask = Image.new("L", (SIDE, SIDE), 255)
    mask.paste(0, (0, 0, 20, 20))
    spoiled = Image.composite(NOISE, SOURCES[0], Image.new("L", (SIDE, SIDE), 128))
    (ratio,), (whole,) = (
        kept_parts(SOURCES[:1], [spoiled], [mask])["PSNR kept"],
        pie_bench(SOURCES[:1], [spoiled], [mask])["PSNR"],
    )
    assert whole > ratio + 5  # a large mask looks like a good picture to PIE-Bench


def test_rows_that_lack_something_have_no_figure(clip_folder: Path) -> None:
    clip = ClipScorer.from_pretrained(clip_folder)
    black, white, other = (
        Image.new("L", size, level) for size, level in (((SIDE,) * 2, 0), ((SIDE,) * 2, 255), ((9, 9), 0))
    )
    kept = kept_parts([SOURCES[0]] * 4, [SOURCES[0]] * 4, [black, white, other, None])
    assert kept["PSNR kept"][0] == 100 and kept["SSIM kept"][0] == pytest.approx(1)
    assert count_undefined(kept) == {"PSNR kept": 3, "SSIM kept": 3}
    assert count_undefined(pie_bench([SOURCES[0]] * 3, EDITED, [black, other, None])) == {
        "PSNR": 2, "MSE": 2, "SSIM": 2,
    }  # fmt: skip
    brushed = magic_brush(EDITED, [TARGETS[0], None, TARGETS[2]], ["a cow", "a barn", " "], clip=clip)
    assert count_undefined(brushed) == {"L1": 1, "L2": 1, "CLIP-I": 1, "CLIP-T": 1}
    assert "DINO" not in brushed
    emu = emu_edit([SOURCES[0], None, SOURCES[2]], EDITED, ["a", "a barn", ""], ["a cow", "a cow", "a cow"], clip=clip)
    assert count_undefined(emu) == {"CLIP_dir": 2, "CLIP_im": 1, "L1": 1}
    same = emu_edit(SOURCES[:1], SOURCES[:1], ["a cow"], ["a barn"], clip=clip)
    assert same["CLIP_dir"] == [0.0] and same["CLIP_im"] == pytest.approx([1])
    alike = emu_edit(SOURCES[:1], EDITED[:1], ["a barn"], ["A  barn"], clip=clip)  # CLIP reads both alike
    assert count_undefined(alike) == {"CLIP_dir": 1}
    assert math.isnan(psnr_of(math.nan))


def test_other_sizes_are_brought_to_that_of_the_picture_they_are_compared_with() -> None:
    large = EDITED[0].resize((100, 100), Image.Resampling.BICUBIC)
    back = large.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    assert magic_brush([large], TARGETS[:1], [""]) == magic_brush([back], TARGETS[:1], [""])
    assert kept_parts(SOURCES[:1], [large], MASKS[:1]) == kept_parts(SOURCES[:1], [back], MASKS[:1])


def test_ssim_of_small_pictures_is_undefined() -> None:
    assert ssim(torch.zeros(2, 3, 8, 20), torch.zeros(2, 3, 8, 20)).isnan().all()


def test_dino_reads_both_generations(tmp_path: Path, dino_folder: Path) -> None:
    config = Dinov2Config(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14)
    Dinov2Model(config).save_pretrained(tmp_path / "second")
    for folder in (dino_folder, tmp_path / "second"):
        dino = Dino.from_pretrained(folder, batch=2)
        vectors = dino.embed([*SOURCES, SOURCES[0].resize((90, 64))])
        assert vectors.shape == (4, 16) and torch.allclose(vectors.norm(dim=-1), torch.ones(4))
        assert dino.structure_distances(SOURCES[:2], [SOURCES[0], TARGETS[1]])[0] == 0
    with pytest.raises(ModelError, match="the DINO model .*missing.*Give a folder with a ViTModel"):
        Dino.from_pretrained(tmp_path / "missing")


def test_a_clip_is_no_dino(clip_folder: Path) -> None:
    with pytest.raises(ModelError, match="it is a clip"):
        Dino.from_pretrained(clip_folder)


def test_lpips_is_there_where_its_libraries_are() -> None:
    torchmetrics = pytest.importorskip("torchmetrics", exc_type=ImportError)
    assert torchmetrics and find_lpips() is not None
