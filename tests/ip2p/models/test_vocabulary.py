"""A model that has seen few words says which of a text it does not know."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from ip2p import Editor, cli
from ip2p.models.backbone import load_backbone
from ip2p.models.convert import convert
from ip2p.models.vocabulary import Vocabulary, read_vocabulary

KNOWN = Vocabulary(frozenset({"make", "it", "winter", "don't"}), ("make it winter", "make it night"))


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("Make it WINTER!", []),
        ("make it van gogh, gogh", ["van", "gogh"]),
        ("don’t make it 3 冬", ["3", "冬"]),
        ("make it a 🐱, बिल्ली-winter 'it'", ["a", "🐱", "बिल्ली"]),
        ("", []),
    ],
)
def test_words_are_told_apart_from_case_and_marks(text: str, unknown: list[str]) -> None:
    assert KNOWN.unknown_words(text) == unknown


def test_what_is_near_is_suggested_and_else_what_can_be_done() -> None:
    assert KNOWN.describe(["wintr"]) == "the word 'wintr' (did you mean 'winter'?)"
    assert KNOWN.describe(["wintr", "cat"]) == (
        "the words 'wintr' (did you mean 'winter'?), 'cat'. It can, for example: make it winter, make it night"
    )


@pytest.mark.parametrize("name", ["storybook-editor", "storybook-base"])
def test_bundled_models_know_their_own_examples(name: str) -> None:
    vocabulary = load_backbone(name).vocabulary
    assert vocabulary and vocabulary.examples
    assert not [word for text in vocabulary.examples for word in vocabulary.unknown_words(text)]
    assert vocabulary.unknown_words("a castle like van gogh") == ["like", "van", "gogh"][name.endswith("editor") :]


def test_it_survives_a_change_of_layout(tmp_path: Path) -> None:
    bundled = load_backbone("storybook-base").vocabulary
    convert("storybook-base", tmp_path / "one")
    assert read_vocabulary(tmp_path / "one") == bundled


@pytest.mark.filterwarnings("always")
def test_an_edit_with_unknown_words_is_made_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 64), "red").save("barn.png")
    assert cli.run(["edit", "barn.png", "add a zebra", "--steps", "1", "-o", "zebra.png"]) == 0
    said = capsys.readouterr().err
    assert "ip2p: storybook-editor does not know the word 'zebra'. It can, for example: add a cow" in said
    assert cli.run(["generate", "a zebra by a lake", "--steps", "1", "-o", "lake.png"]) == 0
    assert "storybook-base does not know the word 'zebra'" in capsys.readouterr().err


def test_models_without_a_list_know_every_word(editor_folder: Path) -> None:
    assert load_backbone(editor_folder).vocabulary is None
    Editor.from_pretrained(str(editor_folder)).edit_one(Image.new("RGB", (32, 32)), "van gogh", steps=1)


def test_words_of_embeddings_are_known(tmp_path: Path) -> None:
    width = load_backbone("storybook-editor").text_encoder.config.hidden_size
    save_file({"emb_params": torch.zeros(1, width)}, tmp_path / "zork.safetensors")
    editor = Editor.from_pretrained(device="cpu", embeddings=[tmp_path / "zork.safetensors"])
    vocabulary = editor.backbone.vocabulary
    assert vocabulary and vocabulary.unknown_words("make it zork or zurk") == ["or", "zurk"]
