"""`--weights` reaches every command that loads a model, and is recorded where there is a choice."""

import json
import shlex
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ip2p import cli
from ip2p.models.backbone import load_backbone
from ip2p.models.convert import convert
from ip2p.models.key_names import UNET
from ip2p.pictures.write import read_parameters


@pytest.fixture
def model(sd_editor_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A single file with raw weights and their moving average, beside a picture in the current folder."""
    monkeypatch.chdir(tmp_path)
    Image.effect_noise((32, 32), 100).convert("RGB").save("a.png")
    return both_kinds(sd_editor_folder, tmp_path / "editor.safetensors")


def both_kinds(folder: Path, path: Path) -> Path:
    convert(folder, path)
    weights = load_file(path)
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    averaged = {
        "model_ema." + key.removeprefix("model.").replace(".", ""): 0.9 * value
        for key, value in weights.items()
        if key.startswith(UNET)
    }
    save_file(weights | averaged, path, metadata=header)
    return path


@pytest.mark.parametrize("weights", [None, "raw", "ema"])
@pytest.mark.parametrize("command", ["edit", "grid"])
def test_a_picture_says_which_weights_made_it_and_its_command_makes_it_again(
    command: str, weights: str | None, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [command, "a.png", "make it winter", "--model", model.name, "--steps", "1", "--seed", "3", "-o", "b.png"]
    words += ["--text-scales", "2,3", "--image-scales", "1"] if command == "grid" else []
    assert cli.run([*words, *(["--weights", weights] if weights else [])]) == 0
    assert f"(--weights {weights or 'ema'})" in capsys.readouterr().err
    assert read_parameters(Path("b.png"))["weights"] == (weights or "ema")
    assert cli.run(["inspect", "b.png"]) == 0
    again = capsys.readouterr().out.splitlines()[-1]
    assert cli.run(shlex.split(again)[1:]) == 0
    assert Path("b-again.png").read_bytes() == Path("b.png").read_bytes()


def test_other_commands_take_it(model: Path, sd_base_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = both_kinds(sd_base_folder, Path("base.safetensors"))
    words = ["generate", "a barn", "--model", base.name, "--steps", "1", "--seed", "3", "-o", "c.png"]
    assert cli.run([*words, "--weights", "raw"]) == 0
    assert read_parameters(Path("c.png"))["weights"] == "raw"
    Path("edits.jsonl").write_text(json.dumps({"image": "a.png", "instruction": "make it winter", "seed": 3}) + "\n")
    pixels = []
    for weights in ("ema", "raw"):
        words = ["batch", "edits.jsonl", "--model", model.name, "--steps", "1", "-o", weights, "--weights", weights]
        assert cli.run(words) == 0
        (result,) = Path(weights).glob("*make*.png")
        assert read_parameters(result)["weights"] == weights
        pixels.append(Image.open(result).tobytes())
    assert pixels[0] != pixels[1]
    capsys.readouterr()
    assert cli.run(["convert", model.name, "raw-model", "--weights", "raw"]) == 0
    assert "(--weights raw)" in capsys.readouterr().err
    raw = load_backbone(Path("raw-model")).unet.conv_in.weight
    assert torch.equal(raw, load_backbone(model, weights="raw").unet.conv_in.weight)


def test_what_is_not_there_is_told(model: Path, sd_editor_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, weights, message in (
        (model.name, "mean", "--weights mean is neither ema nor raw. Give --weights=ema or --weights=raw"),
        (str(sd_editor_folder), "raw", "and does not say which. Leave out --weights"),
    ):
        words = ["--model", name, "--weights", weights]
        assert cli.run(["edit", "a.png", "make it winter", *words]) == 2
        assert message in capsys.readouterr().err
    assert cli.run(["evaluate", "--scenes", "1", "--model", str(sd_editor_folder), "--weights", "raw"]) == 2
    assert "Leave out --weights" in capsys.readouterr().err
