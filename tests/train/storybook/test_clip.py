"""The storybook CLIPs: batches, learning, and the same scores after saving."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from transformers import CLIPModel

from ip2p.measuring.clip import ClipScorer
from ip2p.storybook.edits import apply, edit_between, evaluation_cases
from ip2p.storybook.language import parse
from ip2p.storybook.phrases import UNSAID
from ip2p.storybook.render import render
from ip2p.storybook.scene import is_held_out, values
from ip2p.train.optimizer import build_optimizer
from ip2p.train.storybook.clip import IMAGE_SIDE, ClipTask, contrastive_loss, measure, other_captions, save_clip
from ip2p.train.storybook.tokens import make_tokenizer
from ip2p.train.storybook.world import World, edited_scene, natural_scene

pytestmark = pytest.mark.slow
CPU = torch.device("cpu")
SCENES = 16


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, World]:
    folder = tmp_path_factory.mktemp("pictures")
    return World(SCENES, "clip", folder, print), World(SCENES, "clip-edited", folder, print)


@pytest.fixture(scope="module")
def task(worlds: tuple[World, World], tmp_path_factory: pytest.TempPathFactory) -> ClipTask:
    return make_task("clip-a", worlds, tmp_path_factory.mktemp("tokenizer"))


def make_task(name: str, worlds: tuple[World, World], folder: Path) -> ClipTask:
    return ClipTask(name, *worlds, make_tokenizer(folder), CPU)


def test_edited_worlds_differ_in_one_attribute_that_clips_see() -> None:
    for number in range(200):
        before, after = natural_scene(number, "clip"), edited_scene(number)
        assert sum(after.attributes[name] != value for name, value in before.attributes.items()) == 1
        assert all(after.attributes[name] in allowed for name, allowed in values("clip").items())
        assert after.layout == before.layout
        assert not is_held_out(after.attributes)
        assert apply(before, edit_between(before, after)) == after


def test_three_quarters_of_a_batch_are_single_edit_pairs(task: ClipTask, worlds: tuple[World, World]) -> None:
    _, captions, attributes = task.samples(range(64))
    for start in range(0, 64, 8):
        for place in range(start, start + 6, 2):
            before, after = (UNSAID | parse(text) for text in captions[place : place + 2])
            assert sum(before[name] != after[name] for name in before) == 1
            assert (attributes[place] != attributes[place + 1]).sum() == 1
    pictures, _, _ = task.samples(range(8))
    row = task.pairs.row(0)
    first, second = (
        F.interpolate(world.pictures([row]), (IMAGE_SIDE, IMAGE_SIDE), mode="bicubic", antialias=True)
        for world in worlds
    )
    mirrored = not torch.equal(pictures[0], first[0])
    for picture, drawn in zip(pictures, (first, second), strict=False):
        assert torch.equal(picture.flip(-1) if mirrored else picture, drawn[0])


def test_captions_tell_what_the_pictures_show(task: ClipTask) -> None:
    for position in range(64):
        sample = task._sample(position)
        shown = (task.world.scenes + task.edited.scenes)[sample.row].attributes
        assert all(shown[name] == value for name, value in parse(sample.caption).items())


def test_a_sample_follows_from_its_position(task: ClipTask) -> None:
    pictures, captions, _ = task.samples(range(40, 48))
    again, texts, _ = task.samples([45, 46])
    assert torch.equal(again, pictures[5:7]) and texts == captions[5:7]
    assert task.samples([5])[1] != task.samples([5 + 8 * SCENES])[1]


def test_loss_is_the_same_each_time_and_begins_at_chance(task: ClipTask) -> None:
    first, second = task.loss(range(32)), task.loss(range(32))
    assert first.item() == second.item()
    assert 3.3 < first.item() < 6  # log 32 = 3.47, and half of some 1.5 for attributes nobody has told yet
    assert first.item() != task.loss(range(32, 64)).item()


def test_both_towers_learn_from_a_batch(worlds: tuple[World, World], tmp_path: Path) -> None:
    task = make_task("clip-b", worlds, tmp_path)
    optimizer = build_optimizer(task.modules, name="muon", learning_rate=1.5e-3, weight_decay=0.05)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = task.loss(range(16))
        loss.backward()
        losses.append(loss.item())
        assert all(parameter.grad is not None for parameter in task.model.parameters())
        optimizer.step()
    assert losses[-1] < losses[0] - 0.3


def test_a_and_b_have_nothing_in_common_but_their_world(
    task: ClipTask, worlds: tuple[World, World], tmp_path: Path
) -> None:
    other = make_task("clip-b", worlds, tmp_path)
    assert other.settings != task.settings
    assert not torch.equal(other.model.text_projection.weight, task.model.text_projection.weight)
    assert other.samples(range(8))[1] != task.samples(range(8))[1]


def test_contrastive_loss_of_perfect_and_of_blind_vectors() -> None:
    vectors = torch.eye(8)
    assert contrastive_loss(vectors, vectors, torch.tensor(4.6)).item() < 1e-6
    blind = torch.ones(8, 8)
    assert contrastive_loss(blind, blind, torch.tensor(4.6)).item() == pytest.approx(torch.tensor(8.0).log().item())


def test_the_temperature_stays_above_a_hundredth(worlds: tuple[World, World], tmp_path: Path) -> None:
    task = make_task("clip-a", worlds, tmp_path)
    torch.nn.init.constant_(task.model.logit_scale, 9.0)
    task.loss(range(4))
    assert task.model.logit_scale.exp().item() == pytest.approx(100)


def test_saved_weights_score_as_the_task_does(task: ClipTask, tmp_path: Path) -> None:
    folder = tmp_path / "clip"
    save_clip(task, folder, {"README.md": "card"})
    assert {path.name for path in folder.iterdir()} == {
        "config.json", "model.safetensors", "merges.txt", "vocab.json", "tokenizer_config.json",
        "preprocessor_config.json", "README.md",
    }  # fmt: skip
    assert (folder / "model.safetensors").stat().st_size < 9e6
    assert json.loads((folder / "config.json").read_text())["dtype"] == "float16"
    loaded, own = ClipScorer.from_pretrained(folder), task.scorer()
    assert loaded.preprocessing == own.preprocessing
    assert next(task.model.parameters()).dtype == torch.float32
    case = evaluation_cases(1)[0]
    pair = [render(case.scene)], [render(case.target)], [case.caption], [case.edited_caption]
    for saved, exact in zip(loaded.scores(*pair)[:3], own.scores(*pair)[:3], strict=True):
        torch.testing.assert_close(saved, exact, atol=5e-3, rtol=0)


def test_pooling_takes_the_end_of_the_text(task: ClipTask) -> None:
    model: CLIPModel = task.model.eval()
    short = task.tokenizer("a red barn", return_tensors="pt").input_ids
    padded = task.tokenizer("a red barn", padding="max_length", return_tensors="pt").input_ids
    with torch.no_grad():
        output = model.text_model(short)
        torch.testing.assert_close(output.pooler_output, output.last_hidden_state[:, -1])
        torch.testing.assert_close(model.text_model(padded).pooler_output, output.pooler_output)


def test_measures_are_percentages(task: ClipTask) -> None:
    measured = measure(task.scorer(), 10)
    assert list(measured) == ["retrieval", "neighbours", "direction"]
    assert all(0 <= value <= 100 for value in measured.values())


def test_other_captions_are_of_other_scenes() -> None:
    for number, case in enumerate(evaluation_cases(30)):
        others = other_captions(case, number)
        assert len({case.caption, case.edited_caption, *others}) == 10


def test_sheet_shows_pictures_beside_what_was_found(task: ClipTask) -> None:
    assert task.sheet().height > 8 * 128
