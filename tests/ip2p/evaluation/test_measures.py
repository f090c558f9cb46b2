"""Figures of edited pictures: as the published definitions have them, with each picture and text embedded once."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import ViTConfig, ViTModel

from ip2p.evaluation.measures import Measurer
from ip2p.evaluation.samples import Pictures, Sample
from ip2p.measuring.clip import ClipScorer
from ip2p.measuring.dino import Dino
from ip2p.measuring.published import emu_edit, magic_brush

MakeSample = Callable[..., Sample]


@pytest.fixture(scope="module")
def dino(tmp_path_factory: pytest.TempPathFactory) -> Dino:
    """A tiny random DINO."""
    torch.manual_seed(4)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    folder: Path = tmp_path_factory.mktemp("dino")
    ViTModel(ViTConfig(**sizes, image_size=32, patch_size=8), add_pooling_layer=False).save_pretrained(folder)
    return Dino.from_pretrained(folder)


def picture(seed: int) -> Image.Image:
    """A picture of colours that depend on the seed."""
    return Image.linear_gradient("L").resize((32, 32)).convert("RGB").point(lambda value: (value * (seed + 1)) % 256)


def test_others_measures_are_as_they_define_them(make_sample: MakeSample, dino: Dino) -> None:
    clip = ClipScorer.from_pretrained("storybook-clip-a")
    texts = [("a red barn", "a blue barn"), ("a barn in summer", "a barn in winter"), ("", "a barn at night")]
    samples = [
        make_sample(row, caption=before, edited_caption=after) for row, (before, after) in enumerate(texts)
    ]  # fmt: skip
    pictures = [Pictures(picture(row), None if row == 1 else picture(row + 5)) for row in range(3)]
    edited = [picture(row + 9) for row in range(3)]
    measurer, calls = Measurer(None, clip, dino), Counter[str]()
    clip.model.vision_model.register_forward_hook(lambda *_: calls.update(["pictures"]))
    clip.model.text_model.register_forward_hook(lambda *_: calls.update(["texts"]))
    batch = measurer.prepare(samples, pictures)
    assert calls == {"pictures": 2, "texts": 1}  # inputs, targets
    found = measurer.measure(batch, edited)
    assert calls == {"pictures": 3, "texts": 1}
    sources, targets = [each.source for each in pictures], [each.target for each in pictures]
    before, after = zip(*texts, strict=True)
    for whose, expected in {
        "MagicBrush": magic_brush(edited, targets, after, clip=clip, dino=dino),
        "Emu Edit": emu_edit(sources, edited, before, after, dino=dino),
    }.items():
        for name, values in expected.items():
            for row, value in enumerate(values):
                own = found[row].figures.get(f"{whose} {name}")
                assert (own is None) == (value != value), (name, row)
                assert own is None or own == pytest.approx(value, abs=2e-6), (name, row)
    emu = emu_edit(sources, edited, before, after, clip=clip)
    names = {"CLIP_dir": "clip_direction", "CLIP_im": "clip_image", "CLIP_out": "clip_edited"}
    for name, own_name in names.items():
        for row, value in enumerate(emu[name]):
            assert found[row].figures.get(own_name, value) == pytest.approx(value, abs=2e-6, nan_ok=True)
    assert "clip_direction" not in found[2].figures


def test_an_unchanged_picture_has_no_direction(make_sample: MakeSample) -> None:
    clip = ClipScorer.from_pretrained("storybook-clip-a")
    measurer, pictures = Measurer(None, clip), [Pictures(picture(row)) for row in range(5)]
    samples = [make_sample(row, caption="a red barn", edited_caption="a blue barn") for row in range(5)]
    batch = measurer.prepare(samples, pictures)
    (only,) = measurer.measure(batch.take([3]), [pictures[3].source.copy()])  # in a batch of another size
    assert only.figures["clip_direction"] == 0 and only.figures["clip_image"] == pytest.approx(1, abs=1e-6)
