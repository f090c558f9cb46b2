"""CLIP scores: against transformers' own embeddings, and what batches, sizes and bad folders do."""

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from ip2p.errors import ModelError
from ip2p.measuring.clip import ClipScorer
from ip2p.pictures.tensors import to_tensor

TEXTS = ["make it night", "make it winter", "a barn"]


@pytest.fixture(scope="module")
def clip_folder(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random CLIP of 16 px."""
    folder = tmp_path_factory.mktemp("clip")
    tokenizer = CLIPTokenizer.from_pretrained(base_folder / "tokenizer")
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    last = len(tokenizer) - 1
    words = {"vocab_size": last + 1, "max_position_embeddings": 16, "eos_token_id": last, "bos_token_id": last - 1}
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config=tower | words, vision_config=tower | {"image_size": 16, "patch_size": 8}, projection_dim=8
    )
    CLIPModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def scorer(clip_folder: Path) -> ClipScorer:
    """It, loaded; two rows in a batch."""
    return ClipScorer.from_pretrained(clip_folder, batch=2)


def pictures(count: int, side: int = 16) -> list[Image.Image]:
    """Pictures that differ."""
    return [Image.linear_gradient("L").resize((side, side)).rotate(37 * k).convert("RGB") for k in range(count)]


def test_vectors_are_those_of_transformers(scorer: ClipScorer) -> None:
    seen = scorer.preprocessing(to_tensor(pictures(3)))
    tokens = scorer.tokenizer(TEXTS, padding="max_length", truncation=True, max_length=16, return_tensors="pt")
    with torch.inference_mode():
        output = scorer.model(pixel_values=seen, **tokens)
    assert torch.allclose(scorer.embed_images(pictures(3)), output.image_embeds, atol=1e-6)
    assert torch.allclose(scorer.embed_texts(TEXTS), output.text_embeds, atol=1e-6)


def test_vectors_have_length_one_and_do_not_depend_on_the_batch(scorer: ClipScorer) -> None:
    images, texts = scorer.embed_images(pictures(5)), scorer.embed_texts(TEXTS)
    assert torch.allclose(torch.cat([images, texts]).norm(dim=-1), torch.ones(8))
    assert torch.allclose(images, torch.cat([scorer.embed_images([each]) for each in pictures(5)]), atol=1e-6)
    assert torch.allclose(images, scorer.embed_images(to_tensor(pictures(5))), atol=1e-6)
    assert torch.equal(texts[[2, 0, 2]], scorer.embed_texts(["a barn", "make it night", "a barn"]))


def test_scores_are_the_papers(scorer: ClipScorer) -> None:
    i, j, s, t = (
        x.double() for x in (*scorer.embed_images(pictures(2))[:, None], *scorer.embed_texts(TEXTS[:2])[:, None])
    )
    source, edited = pictures(2)
    scores = scorer.scores([source], [edited], TEXTS[:1], TEXTS[1:2])
    expected = (i @ s.T, j @ t.T, i @ j.T, torch.cosine_similarity(j - i, t - s)[:, None])
    assert torch.allclose(torch.stack(list(scores)).double(), torch.cat(expected), atol=1e-5)


def test_no_change_has_no_direction(scorer: ClipScorer) -> None:
    scores = scorer.scores(pictures(1), pictures(1), TEXTS[:1], TEXTS[1:2])
    assert scores.direction.item() == 0
    assert scores.image.item() == pytest.approx(1)


def test_pictures_of_other_sizes_are_seen_whole(scorer: ClipScorer) -> None:
    wide = Image.new("RGB", (96, 24), "white")
    wide.paste("black", (0, 0, 24, 24))
    mixed = scorer.embed_images([wide, *pictures(1, side=50)])
    assert torch.allclose(mixed[:1], scorer.embed_images([wide.resize((16, 16), Image.Resampling.BICUBIC)]), atol=1e-2)


def test_many_texts_do_not_pile_up(scorer: ClipScorer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ip2p.measuring.clip.MAX_CACHED_TEXTS", 4)
    first = scorer.embed_texts(TEXTS)
    scorer.embed_texts([f"{number} barns" for number in range(4)])
    assert len(scorer._texts) <= 7
    assert torch.equal(scorer.embed_texts(TEXTS), first)


def test_wrong_models_are_told(base_folder: Path, tmp_path: Path) -> None:
    for name in (tmp_path, base_folder, tmp_path / "nowhere"):
        with pytest.raises(ModelError, match="cannot load the CLIP model"):
            ClipScorer.from_pretrained(name)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", "[1]", "config.json is a list"),
        ("config.json", '{"text_config": {"num_hidden_layers": 3000}}', "3000 layers"),
        ("preprocessor_config.json", "[1]", "AttributeError"),
        ("tokenizer_config.json", "[1]", "TypeError"),
        ("vocab.json", None, "no vocabulary"),
    ],
)
def test_damaged_models_are_told(
    clip_folder: Path, tmp_path: Path, file: str, content: str | None, message: str
) -> None:
    folder = Path(shutil.copytree(clip_folder, tmp_path / "clip"))
    if content is None:
        for name in ("vocab.json", "tokenizer.json"):
            (folder / name).unlink(missing_ok=True)
    else:
        (folder / file).write_text(content)
    with pytest.raises(ModelError, match=f"cannot load the CLIP model .*{message}"):
        ClipScorer.from_pretrained(folder)


def test_the_papers_range_and_resizing_are_as_in_its_code(clip_folder: Path) -> None:
    """Its metrics take pictures in [-1, 1] for pictures in [0, 1], and resize without antialiasing."""
    plain = ClipScorer.from_pretrained(clip_folder).preprocessing
    x = torch.rand(2, 3, 40, 40, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (plain.mean, plain.std))
    small = torch.nn.functional.interpolate(x, (16, 16), mode="bicubic", align_corners=False)
    both = plain._replace(original_range=True, original_resize=True)
    torch.testing.assert_close(both(x), (small - mean) / std)
    torch.testing.assert_close(plain._replace(original_resize=True)(x), (small / 2 + 0.5 - mean) / std)
    assert (plain._replace(original_range=True)(x) - plain(x)).abs().max() > 0.1
