"""What made a picture can be read by people, by other programs and by a shell."""

import shlex
import subprocess

import pytest

import ip2p
from ip2p.pictures.parameters import as_text, command, from_text, printable

EDIT = {
    "instruction": 'make it "winter", 冬\nand\x1b[31m night', "seed": 2**60, "text_scale": 7.5, "image_scale": -1.5,
    "steps": 20, "scheduler": "euler_a", "resolution": 128, "model": "runs/a: b, c", "precision": "fp32",
    "device": "cpu", "input": "it's.png", "input_sha256": "ab" * 32, "frame": 2, "native": True,
}  # fmt: skip
FOREIGN = """a (red:1.2) barn, by a lake
in summer
Negative prompt: blurry, dark
Steps: 30, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 5, Size: 512x768, Lora hashes: "a: 12, b: 34", Version: v1.9"""


def test_the_text_is_the_web_uis() -> None:
    text = as_text({"instruction": "make it winter", "seed": 9, "steps": 20, "scheduler": "dpm", "model": "m",
                    "text_scale": 7.5, "image_scale": 1.5, "input": "a, b.png", "versions": "x"}, (32, 48))  # fmt: skip
    assert text == (
        "make it winter\nSteps: 20, Sampler: DPM++ 2M, CFG scale: 7.5, Image CFG scale: 1.5, Seed: 9, Size: 32x48, "
        f'Model: m, Input: "a, b.png", Version: ip2p {ip2p.__version__}'
    )


def test_our_text_is_read_back() -> None:
    read = from_text(as_text(EDIT, (32, 48)))
    assert read == EDIT | {"size": "32x48", "version": f"ip2p {ip2p.__version__}"}
    drawn = {"caption": "a barn", "scale": 3.0, "seed": 1, "resolution": None}
    assert from_text(as_text(drawn, (8, 8))).items() >= drawn.items()


def test_a_negative_prompt_has_a_line_of_its_own() -> None:
    text = as_text(EDIT | {"negative_prompt": "fog, rain: none"}, (32, 48))
    assert text.split("\n")[-2] == "Negative prompt: fog, rain: none"
    assert from_text(text) == EDIT | {
        "negative_prompt": "fog, rain: none", "size": "32x48", "version": f"ip2p {ip2p.__version__}"
    }  # fmt: skip


def test_the_text_of_others_is_read_under_its_own_names() -> None:
    assert from_text(FOREIGN) == {
        "Prompt": "a (red:1.2) barn, by a lake\nin summer", "Negative prompt": "blurry, dark", "Steps": "30",
        "Sampler": "DPM++ 2M Karras", "CFG scale": "7", "Seed": "5", "Size": "512x768",
        "Lora hashes": "a: 12, b: 34", "Version": "v1.9",
    }  # fmt: skip
    assert command(from_text(FOREIGN), "again.png") is None


@pytest.mark.parametrize(
    "text", ["", "Screenshot", "note: bought, price: 3", "a\n: , : , :", '"' * 5000, "a:" * 90_000]
)
def test_other_text_has_no_parameters(text: str) -> None:
    assert from_text(text) == {}


def test_a_shell_reads_the_command_as_it_was_meant() -> None:
    output = command(EDIT, "a b.png")
    assert output is not None and output.isprintable()
    script = output.replace("ip2p edit", "printf '%s\\0'", 1)
    words = subprocess.run(["bash", "-c", script], capture_output=True, check=True).stdout.decode().split("\0")[:-1]
    assert words[:2] == [EDIT["input"], EDIT["instruction"]]
    assert words.pop(words.index("--native")) == "--native"
    options = dict(zip(words[2:-2:2], words[3:-2:2], strict=True))
    assert options == {
        "--text-scale": "7.5", "--image-scale": "-1.5", "--steps": "20", "--seed": str(2**60), "--frame": "2",
        "--scheduler": "euler_a", "--resolution": "128", "--model": "runs/a: b, c",
        "--precision": "fp32",
    }  # fmt: skip
    assert words[-2:] == ["-o", "a b.png"]


def test_names_that_begin_like_options_stand_last() -> None:
    output = command({"caption": "-x", "seed": 1}, "y.png")
    assert output and shlex.split(output) == ["ip2p", "generate", "--seed", "1", "-o", "y.png", "--", "-x"]


def test_what_no_command_made_has_none() -> None:
    assert command({"step": 7}, "again.png") is None


@pytest.mark.parametrize(
    ("value", "line"), [("冬 a", "冬 a"), ("a\nb\x1b", '"a\\nb\\u001b"'), (7.5, "7.5"), (None, "null")]
)
def test_values_are_shown_on_one_line(value: object, line: str) -> None:
    assert printable(value) == line


def test_turns_masks_adapters_and_savings_are_in_the_command() -> None:
    output = command(
        {
            "instruction": "add a cow", "turns": ["make it winter", "add a cow"], "keep_unchanged": False,
            "mask": "m.png", "lora": ["ink.safetensors:0.8"], "embedding": ["word.safetensors"], "tolerance": 0.1,
            "negative_prompt": "fog", "decoder": "some/taesd", "compiled": True,
        },
        "out.png",
    )  # fmt: skip
    assert output == (
        "ip2p edit PICTURE 'make it winter' 'add a cow' --tolerance 0.1 --no-keep-unchanged --negative-prompt fog "
        "--mask m.png --lora ink.safetensors:0.8 --embedding word.safetensors --decoder some/taesd --compile "
        "-o out.png"
    )
