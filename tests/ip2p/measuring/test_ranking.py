"""The best of several is the one whose change points where the text does."""

from pathlib import Path

import pytest
from PIL import Image

from ip2p import cli
from ip2p.measuring.clip import ClipScorer
from ip2p.measuring.ranking import best_index, direction_scores
from ip2p.pictures.read import open_image
from ip2p.pictures.write import read_parameters
from ip2p.storybook.edits import apply, evaluation_cases
from ip2p.storybook.render import render
from ip2p.storybook.scene import Edit


@pytest.fixture(scope="module")
def clip() -> ClipScorer:
    return ClipScorer.from_pretrained("storybook-clip-a")


def test_the_exact_target_is_better_than_another_edit_and_than_none(clip: ClipScorer) -> None:
    case = evaluation_cases(1)[0]
    other = apply(case.scene, Edit("add_sky", "sky", "balloon" if case.scene.sky != "balloon" else "rainbow"))
    source, *edits = (render(scene) for scene in (case.scene, case.scene, other, case.target))
    scores = direction_scores(clip, source, edits, case.instruction, (case.caption, case.edited_caption))
    assert best_index(scores) == 2 and scores[2] > 0.5 and abs(scores[0]) < 1e-4
    by_instruction = direction_scores(clip, source, edits, case.instruction)
    assert abs(by_instruction[0]) < 1e-4 and by_instruction != scores


def test_the_first_of_equal_ones() -> None:
    assert best_index([0.1, 0.4, 0.4]) == 1


@pytest.fixture
def barn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (32, 32), "firebrick").save("barn.png")
    return "barn.png"


@pytest.mark.parametrize(
    "captions", [[], ["--caption", "a red barn in summer", "--edited-caption", "a barn in winter"]]
)
def test_the_command_keeps_the_best_and_tells_all(
    barn: str, captions: list[str], editor_folder: Path, clip: ClipScorer, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["edit", barn, "make it winter", "--model", str(editor_folder), "--steps", "1", "--seed", "5"]
    words += ["--samples", "3"]
    best = ["--keep-best", "--clip", "storybook-clip-a", "-o", "best.png"]
    assert cli.run([*words, *best, *captions]) == 0
    output, errors = capsys.readouterr()
    assert ("caption to edited caption" if captions else "the instruction as direction") in errors
    message = [line for line in errors.splitlines() if line.startswith("ip2p: seed")]
    assert [line.split()[2] for line in message] == ["5:", "6:", "7:"]
    (kept,) = (line for line in message if line.endswith("kept"))
    seed = int(kept.split()[2].rstrip(":"))
    assert output.startswith(f"best.png (seed {seed}, ") and read_parameters("best.png")["seed"] == seed
    assert cli.run([*words, "-o", "all.png"]) == 0
    edits = [open_image(f"all-{number}.png") for number in (5, 6, 7)]
    pair = (captions[1], captions[3]) if captions else None
    assert 5 + best_index(direction_scores(clip, open_image(barn), edits, "make it winter", pair)) == seed
    assert open_image("best.png").tobytes() == edits[seed - 5].tobytes()


BEST = ["--keep-best", "--samples", "2"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--keep-best"], "one sample to choose from. Give --samples 2"),
        (["--keep-best", "--samples", "2", "--model", "a/b"], "no CLIP to judge pictures of a/b by. Give --clip"),
        ([*BEST, "--caption", "a barn"], "Give both, or none"),
        ([*BEST, "--caption", "a barn", "--edited-caption", "a  barn"], "both captions are 'a barn'"),
    ],
)
def test_choices_that_cannot_be_made(
    barn: str, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["edit", barn, "make it winter", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line and [path.name for path in Path().iterdir()] == ["barn.png"]
