"""What a picture says of itself is enough to make it again, to the byte."""

import functools
import json
import random
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from ip2p import cli
from ip2p.models import inference
from ip2p.models.backbone import load_backbone
from ip2p.pictures.parameters import as_text, command, from_text
from ip2p.pictures.write import read_parameters
from ip2p.settings import PRESETS, SCHEDULERS

CASES = 96
TEXTS = (
    "make it winter", "it's \"night\" -- 冬", "--steps 3", "a\nb", "make it, well: {winter}", "[1, 2]", "7.5", "True",
    "zork winter", "-x", "night\tday",
)  # fmt: skip


@pytest.fixture(scope="module")
def home(
    tmp_path_factory: pytest.TempPathFactory, editor_folder: Path, base_folder: Path, sd_editor_folder: Path
) -> Path:
    """A folder with models, adapters and pictures."""
    folder = tmp_path_factory.mktemp("home")
    for name, model in (("editor", editor_folder), ("1e5", editor_folder), ("base", base_folder)):
        shutil.copytree(model, folder / name)
    shutil.copytree(sd_editor_folder / "vae", folder / "other, vae")
    picture = Image.linear_gradient("L").resize((40, 30)).convert("RGB")
    pages = [picture.rotate(90 * turn) for turn in range(3)]
    pages[0].save(folder / "it's a barn.gif", save_all=True, append_images=pages[1:])
    for name in ("barn.png", "-barn.png"):
        picture.save(folder / name)
    Image.radial_gradient("L").resize((40, 30)).save(folder / "mask.png")
    backbone = load_backbone(editor_folder)
    generator = torch.Generator().manual_seed(1)
    lora: dict[str, torch.Tensor] = {}
    for name, module in backbone.unet.named_modules():
        if name.endswith("attn2.to_q"):
            lora[f"unet.{name}.lora_A.weight"] = torch.randn(2, module.in_features, generator=generator)
            lora[f"unet.{name}.lora_B.weight"] = torch.randn(module.out_features, 2, generator=generator)
    for name in ("ink.safetensors", "true: ink.safetensors"):
        save_file(lora, folder / name)
    width = backbone.text_encoder.config.hidden_size
    save_file({"emb_params": torch.randn(2, width, generator=generator)}, folder / "zork.safetensors")
    return folder


@pytest.fixture(autouse=True)
def remembered_models(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Load each model once."""
    known: dict[str, Any] = {}
    load = inference.load_for_inference

    @functools.wraps(load)
    def load_once(name: Any, **options: Any) -> Any:
        return known.setdefault(f"{name} {options}", None) or known.update(
            {f"{name} {options}": load(name, **options)}
        ) or known[f"{name} {options}"]  # fmt: skip

    monkeypatch.setattr(inference, "load_for_inference", load_once)
    monkeypatch.chdir(home)
    yield


def run_in_shell(shown: str) -> int:
    """Run a command as bash splits it."""
    script = shown.replace("ip2p", "printf '%s\\0'", 1)
    out = subprocess.run(["bash", "-c", script], capture_output=True, check=True).stdout
    return cli.run(out.decode().split("\0")[:-1])


def draw_words(rng: random.Random) -> list[str]:
    """A random command line."""
    kind = rng.choice(["edit"] * 5 + ["generate", "grid"])
    words: list[str] = []

    def maybe(option: str, *values: Any, share: float = 0.25) -> None:
        if rng.random() < share:
            words.extend([option, str(rng.choice(values))] if values else [option])

    maybe("--seed", rng.randrange(2**63), share=0.9)
    words.extend(["--steps", str(rng.choice((1, 2, 3)))])
    maybe("--scheduler", *SCHEDULERS)
    maybe("--resolution", 24, 32, 48)
    maybe("--text-every", 2)
    maybe("--extrapolate", 0.5)
    maybe("--hold-after", 0.6)
    maybe("--guidance-stop", 0.8, 1 / 3)
    maybe("--rescale", 0.7)
    if rng.random() < 0.3:
        maybe("--reuse", 2, 3, share=1.0)
    else:
        maybe("--preset", *PRESETS)
        maybe("--tolerance", 0.1) if "--preset" not in words else None
    if "paper" in words:
        words.extend(["--steps", "2"])
    maybe("--precision", "fp32", "bf16")
    maybe("--negative-prompt", *(text for text in TEXTS if text.isprintable()))
    maybe("--no-safety-checker")
    maybe("--vae-tiling")
    if kind == "generate":
        maybe("--scale", 2.5, -1, 1 / 3)
        return ["generate", "--model=base", *words, "--", rng.choice(TEXTS)]
    maybe("--image-every", 3)
    maybe("--lora", "ink.safetensors", "ink.safetensors:0.3", "true: ink.safetensors:-0.1234567891")
    maybe("--lora", "ink.safetensors:1e-3")
    maybe("--embedding", "zork.safetensors")
    picture = rng.choice(["barn.png", "-barn.png", "it's a barn.gif"])
    if picture.endswith("gif"):
        maybe("--frame", 0, 2, share=1.0)
    words.extend(["--model", rng.choice(["editor", "1e5", "./editor"])])
    texts = [rng.choice(TEXTS)]
    if kind == "grid":
        maybe("--text-scales", "1,2.5", "0.333333333", share=1.0)
        maybe("--image-scales", "1.5", "-1,0", share=1.0)
        maybe("--keep-unchanged")
        return ["grid", *words, "--", picture, *texts]
    maybe("--text-scale", 0, 2.5, -1.5, 1 / 3)
    maybe("--image-scale", 1, 1.25, -0.1)
    if not picture.endswith("gif"):
        maybe("--mask", "mask.png")
    if rng.random() < 0.3:
        texts += rng.choices(TEXTS, k=rng.choice((1, 2)))
        maybe("--no-keep-unchanged")
    else:
        maybe(rng.choice(["--keep-unchanged", "--no-keep-unchanged"]))
        maybe("--native")
    return ["edit", *words, "--", picture, *texts]


@pytest.mark.slow
@pytest.mark.parametrize("part", range(8))
def test_the_printed_command_makes_the_same_bytes(part: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Random settings of all commands, in all formats; also by the text that is left when another program took ours."""
    for case in range(part, CASES, 8):
        rng = random.Random(case)
        words = draw_words(rng)
        suffix = rng.choice([".png", ".png", ".jpg", ".webp"])
        first = Path(f"case-{case}{suffix}")
        place = words.index("--")
        assert cli.run([*words[:place], "-o", str(first), *words[place:]]) == 0, (
            shlex.join(words),
            capsys.readouterr().err,
        )
        capsys.readouterr()
        assert cli.run(["inspect", str(first)]) == 0
        shown = capsys.readouterr().out.rstrip("\n").split("\n")[-1]
        assert run_in_shell(shown) == 0, (words, shown, capsys.readouterr().err)
        again = first.with_stem(f"{first.stem}-again")
        assert again.read_bytes() == first.read_bytes(), (words, shown)
        parameters = read_parameters(first)
        text_only = from_text(as_text(parameters, (1, 1)))
        assert command(text_only, again.name) == shown, (words, shown)


def test_a_picture_of_a_batch_is_made_again_by_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"image": "barn.png", "instruction": "make it winter", "mask": "mask.png", "output": "one.webp", "seed": 4},
        {"image": "it's a barn.gif", "instruction": "make it night", "frame": 1, "negative_prompt": "day",
         "preset": "fast", "output": "two.jpg"},
        {"image": "barn.png", "instructions": ["make it winter", "make it night"], "text_scale": 2.0,
         "output": "three.png"},
    ]  # fmt: skip
    Path("edits.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["batch", "edits.jsonl", "--model", "editor", "--batch", "1", "--lora", "ink.safetensors:0.5", "--steps"]
    assert cli.run([*words, "2"]) == 0
    results = list(map(json.loads, Path("edits-edited/results.jsonl").read_text().splitlines()))
    for row, result in zip(rows, results, strict=True):
        first = Path("edits-edited") / str(row["output"])
        assert result["status"] == "done" and result["changed"] == read_parameters(first)["changed"]
        capsys.readouterr()
        assert cli.run(["inspect", str(first)]) == 0
        shown = capsys.readouterr().out.rstrip("\n").split("\n")[-1]
        assert run_in_shell(shown) == 0
        again = Path(f"{first.stem}-again{first.suffix}")
        assert pixels(again) == pixels(first)
        own = {name: value for name, value in read_parameters(first).items() if name != "edit"}
        assert read_parameters(again) == own


def test_models_in_single_files_are_named_with_their_options(
    sd_editor_folder: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["convert", str(sd_editor_folder), "one.safetensors"]) == 0
    from safetensors.torch import load_file

    torch.save({"state_dict": load_file("one.safetensors")}, "one.ckpt")
    shutil.copytree(sd_editor_folder, "configs")
    words = ["edit", "barn.png", "make it night", "--model", "one.ckpt", "--config", "configs", "--allow-pickle"]
    assert cli.run([*words, "--steps", "1", "-o", "night.png"]) == 0, capsys.readouterr().err
    capsys.readouterr()
    assert cli.run(["inspect", "night.png"]) == 0
    shown = capsys.readouterr().out.rstrip("\n").split("\n")[-1]
    assert "--config configs --allow-pickle" in shown
    assert run_in_shell(shown) == 0
    assert Path("night-again.png").read_bytes() == Path("night.png").read_bytes()


def test_inspect_says_what_the_command_needs_and_what_it_cannot_promise(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["edit", "barn.png", "make it night", "--model", "editor", "--steps", "1", "--seed", "5", "--samples", "2"]
    assert cli.run([*words, "-o", str(tmp_path / "night.png")]) == 0
    capsys.readouterr()
    monkeypatch.chdir(tmp_path)
    assert cli.run(["inspect", "night-5.png"]) == 0
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "ip2p: the command needs barn.png in the folder where it is run",
        "ip2p: it was drawn together with others; drawn alone, some of its values may differ by one level of 255",
    ]


def test_inspect_says_that_the_input_is_another_picture_now(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["edit", "barn.png", "make it night", "--model", "editor", "--steps", "1", "--mask", "mask.png"]
    assert cli.run([*words, "-o", str(tmp_path / "night.png")]) == 0
    monkeypatch.chdir(tmp_path)
    for name in ("barn.png", "mask.png"):
        Image.new("L", (40, 30), 255).save(name)
    capsys.readouterr()
    assert cli.run(["inspect", "night.png"]) == 0
    said = capsys.readouterr().err
    assert said == "ip2p: barn.png and mask.png have changed since it was made from them\n"


def pixels(path: Path) -> bytes:
    with Image.open(path) as image:
        return image.convert("RGBA").tobytes()
