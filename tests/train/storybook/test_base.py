"""The program that trains the bundled models, end to end on few scenes: shapes, order and files, not quality."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline

from ip2p.editing.generation import generate
from ip2p.measuring.clip import ClipScorer
from ip2p.models.backbone import load_backbone
from ip2p.storybook.judge import Judge
from ip2p.storybook.scene import RESERVED
from ip2p.train.storybook import autoencoder
from ip2p.train.storybook.autoencoder import grow_decoder, make_autoencoder, normalize_latents
from ip2p.train.storybook.bundle import READ_AS_DRAWN
from ip2p.train.storybook.world import SCENE_MAKERS, World

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]


def base(model: str, state: Path, *more: str) -> str:
    """Run train/storybook/base.py on 24 scenes for 2 steps; returns its output."""
    command = [
        sys.executable,
        "train/storybook/base.py",
        model,
        "--state",
        str(state),
        "--scenes",
        "24",
        "--steps",
        "2",
    ]
    ran = subprocess.run([*command, "--precision", "fp32", *more], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def reproduce(state: Path, out: Path, *more: str) -> str:
    """Run train/storybook/reproduce.py on 24 scenes for 2 steps, without data set and editor; returns its output."""
    command = [
        sys.executable,
        "train/storybook/reproduce.py",
        "--state",
        str(state),
        "--out",
        str(out),
        "--scenes",
        "24",
    ]
    command += ["--steps", "2", "--measure", "8", "--models-only", "--device", "cpu"]
    ran = subprocess.run([*command, *more], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.mark.timeout(2400)  # sixteen processes, each of which imports what models need
def test_the_models_are_made_in_order_and_exported(tmp_path: Path) -> None:
    state, out = tmp_path / "state", tmp_path / "bundled"
    plan = reproduce(state, out, "--plan")
    assert "diffusion" in plan and "done" not in plan and "In all" in plan and not state.exists()
    reproduce(state, out)
    assert sorted(path.name for path in out.iterdir()) == ["base", "clip-a", "clip-b", "judge"]
    assert "64 samples in 2 steps" in (out / "base" / "README.md").read_text()
    figures = json.loads((state / "figures.json").read_text())
    assert figures.keys() == {"base", "clip-a", "clip-b", "judge"}
    plan = reproduce(state, out, "--plan")
    assert plan.count("done") == 6, "all six models have made their steps"
    assert "going on from step 2" in base("diffusion", state)
    begun = tmp_path / "begun"
    assert "going on" not in base("judge", begun, "--begin-with", str(out))
    assert json.loads((out / "judge" / "training.json").read_text())["step"] == 2
    assert next((begun / "judge" / "checkpoints").iterdir()).name == "step-00000004", "counts go on"
    base("diffusion", begun, "--begin-with", str(out))
    base("export", begun, "--out", str(out), "--measure", "8", "--only", "diffusion")
    assert "128 samples in 4 steps" in (out / "base" / "README.md").read_text()
    measured = base("measure", begun, "--out", str(out), "--measure", "8", "--write")
    assert all(name in measured for name in ("judge, ", "PSNR (dB)", "clip-a, ", "clip-b, ", "base, "))
    written = json.loads((out / "judge" / "training.json").read_text())["figures"][READ_AS_DRAWN]
    assert f"all {written['all']:.1f}, " in measured
    (picture,) = generate(load_backbone(out / "base", want="base"), ["a red barn"], seeds=[1], steps=2)
    assert picture.size == (256, 256)
    assert StableDiffusionPipeline.from_pretrained(out / "base", safety_checker=None).unet.config.in_channels == 4
    assert ClipScorer.from_pretrained(out / "clip-a").embed_texts(["a red barn"]).shape == (1, 128)
    assert len(Judge.from_pretrained(out / "judge").read(torch.zeros(2, 3, 256, 256)).layout) == 2
    before = load_backbone(out / "base")
    base("decoder", state)
    base("export", state, "--out", str(out), "--measure", "8", "--only", "decoder")
    after = load_backbone(out / "base")
    assert "base.py decoder  # 32 samples" in (out / "base" / "README.md").read_text()
    x = torch.rand(1, 3, 64, 64) * 2 - 1
    latents = before.encode_target(x)
    assert torch.equal(latents, after.encode_target(x)), "other models read these latents"
    with torch.no_grad():
        assert not torch.equal(before.vae.decode(latents).sample, after.vae.decode(latents).sample)
    assert torch.equal(before.unet.conv_in.weight, after.unet.conv_in.weight)


def test_the_diffusion_model_wants_its_autoencoder(tmp_path: Path) -> None:
    command = [sys.executable, "train/storybook/base.py", "diffusion", "--state", str(tmp_path), "--scenes", "4"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 2
    assert "no autoencoder" in ran.stderr and "train/storybook/base.py autoencoder" in ran.stderr
    assert len(ran.stderr.strip().splitlines()) == 1


@torch.no_grad()
def test_normalised_latents_have_mean_zero_and_spread_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    vae = make_autoencoder().eval()
    pictures = World(32, "base", tmp_path, print).pictures(range(32))
    before = vae.encode(pictures).latents
    decoded = vae.decoder.layers(before)
    normalize_latents(vae, before)
    after = vae.encode(pictures).latents
    assert after.mean((0, 2, 3)).abs().max() < 1e-4 and (after.std((0, 2, 3)) - 1).abs().max() < 1e-3
    # Inside the picture: at the border a convolution sees zeros, which stood for the mean and now do again.
    assert torch.allclose(vae.decoder.layers(after)[..., 40:-40, 40:-40], decoded[..., 40:-40, 40:-40], atol=1e-3)


def test_a_grown_decoder_decodes_to_the_same_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoencoder, "DECODER_BLOCKS", (*autoencoder.DECODER_BLOCKS[:3], 0))
    torch.manual_seed(0)
    small, latents = make_autoencoder(), torch.randn(1, 4, 4, 4)
    grown = grow_decoder(small)
    torch.testing.assert_close(grown.decode(latents).sample, small.decode(latents).sample)
    again = grow_decoder(grown)
    torch.testing.assert_close(again.decode(latents).sample, small.decode(latents).sample)
    weights = [sum(each.numel() for each in vae.decoder.parameters()) for vae in (small, grown, again)]
    assert weights[0] < weights[1] == weights[2]
    monkeypatch.undo()  # a block at full resolution, where there was none
    full = grow_decoder(grown)
    torch.testing.assert_close(grow_decoder(full).decode(latents).sample, full.decode(latents).sample)
    full.decoder.layers[-2] = torch.nn.ReLU()  # it adds zero, and only its ReLU changes anything
    grown.decoder.layers.insert(-1, torch.nn.ReLU())
    torch.testing.assert_close(full.decode(latents).sample, grown.decode(latents).sample)


@pytest.mark.parametrize("kind", SCENE_MAKERS)
def test_worlds_hold_back_what_is_reserved(kind: str, tmp_path: Path) -> None:
    scenes = World(300, kind, tmp_path, print).scenes
    shown = {(name, value) for scene in scenes for name, value in scene.attributes.items()}
    unseen = {(name, value) for name, values in RESERVED.unseen.items() for value in values}
    clip_only = {(name, value) for name, values in RESERVED.clip_only.items() for value in values}
    assert shown & unseen == (unseen if kind.startswith("judge") else set())
    assert shown & clip_only == (set() if kind == "base" else clip_only)
    combinations = {(scene.building, scene.color) for scene in scenes}
    assert bool(combinations & RESERVED.pairs) == kind.startswith("judge")


def test_pictures_are_drawn_once(tmp_path: Path) -> None:
    said: list[str] = []
    first, second = (World(5, "base", tmp_path, said.append) for _ in range(2))
    assert len(said) == 1
    assert torch.equal(first.pictures([3, 1]), second.pictures([3, 1]))
    assert first.pictures([0]).shape == (1, 3, 256, 256) and first.pictures([0]).abs().max() <= 1
