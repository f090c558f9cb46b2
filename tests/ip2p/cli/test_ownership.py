"""Commands write what is theirs and leave every other file as it is, whatever it is called."""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from PIL import Image

from ip2p import cli
from ip2p.errors import DataError
from ip2p.models.backbone import Backbone, load_backbone, save_backbone

Listing = dict[str, tuple[str, str]]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder full of a user's files, with names that ip2p uses too."""
    folder = tmp_path / "home"
    (folder / "photos").mkdir(parents=True)
    picture = Image.linear_gradient("L").convert("RGB").resize((32, 32))
    for name in ("barn.png", "mask.png", "out.png", "photos/a.png", "barn-make-it-winter-7.png", "a-barn-1.png"):
        picture.save(folder / name)
    picture.save(folder / "step-step002.png")
    row = {"image": "barn.png", "instruction": "make it winter", "seed": 7}
    (folder / "edits.jsonl").write_text(json.dumps(row) + "\n")
    for name in ("results.jsonl", "results.png", ".tmp-1-a", ".old-a", "notes.txt", "photos/results.jsonl"):
        (folder / name).write_text("dear diary")
    (folder / ".old-photos").mkdir()
    (folder / ".old-photos" / "b.txt").write_text("dear diary")
    (folder / "link.png").symlink_to("barn.png")
    for name in ("sheet.png", "build.json", "packed/old.parquet", "captions/a.txt", "editor/mine.txt", "run.json"):
        (folder / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "mine" / name).write_text("dear diary")
    (folder / "pages").mkdir()
    for name in ("report.html", "triples.html", "metrics.jsonl"):
        (folder / "pages" / name).write_text("dear diary")
    (folder / "captions.txt").write_text("a red barn by a lake in summer\n")
    monkeypatch.chdir(folder)
    return folder


def listing(folder: Path) -> Listing:
    """Every file, its contents, and what it is."""
    found = {}
    for path in sorted(folder.rglob("*")):
        kind = f"link to {os.readlink(path)}" if path.is_symlink() else "folder" if path.is_dir() else "file"
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if kind == "file" else ""
        found[str(path.relative_to(folder))] = kind, digest
    return found


EDIT = ["edit", "barn.png", "make it winter", "--seed", "7", "--steps", "2"]
REFUSED: dict[str, list[str]] = {
    "an edit over its input": [*EDIT, "-o", "barn.png"],
    "an edit over its mask": [*EDIT, "--mask", "mask.png", "-o", "mask.png"],
    "an edit over a picture": [*EDIT, "-o", "out.png"],
    "an edit over a link": [*EDIT, "-o", "link.png"],
    "an edit over a picture of its own name": EDIT,
    "an edit over a folder": [*EDIT, "-o", "photos.png/../photos"],
    "samples over a picture": [*EDIT, "--samples", "2"],
    "previews over a picture": [*EDIT, "--seed", "8", "-o", "step.png", "--save-progress"],
    "a caption over a picture": ["generate", "a barn", "--seed", "1", "--steps", "1"],
    "a grid over its input": ["grid", "barn.png", "make it winter", "-o", "barn.png"],
    "a grid over a picture": ["grid", "barn.png", "make it winter", "-o", "out.png"],
    "a batch beside a user's results": ["batch", "edits.jsonl", "-o", "."],
    "a batch among photos": ["batch", "edits.jsonl", "-o", "photos"],
    "a model over photos": ["convert", "MODEL", "photos"],
    "a model over the folder that it is in": ["convert", "MODEL", "."],
    "a model over a text": ["convert", "MODEL", "notes.txt"],
    "a model over its own part": ["convert", "MODEL", "MODEL/unet/x.safetensors"],
    "a model over itself": ["convert", "MODEL", "MODEL"],
    "a model over a device": ["convert", "MODEL", "/dev/null"],
    "a model over a link": ["convert", "MODEL", "link.png"],
    "an evaluation over a picture": ["evaluate", "--scenes", "1", "-o", "mine"],
    "a data set over a folder": ["dataset", "build", "out=mine", "captions.count=1"],
    "triples over a page": ["dataset", "triples", "--captions", "captions.txt", "-o", "pages"],
    "a filter over a folder": ["dataset", "filter", "out=mine"],
    "a report over a page": ["dataset", "report", "out=pages"],
    "a writer over notes": ["dataset", "tune-writer", "nowhere", "-o", "mine"],
    "an editor over a model": ["finetune", "base=MODEL", "dataset=pairs", "out=mine"],
    "an editor over a page": ["finetune", "base=MODEL", "dataset=pairs", "out=pages"],
}
IN_A_FILE: dict[str, list[str]] = {
    "a data set": ["dataset", "build", "out=notes.txt/x", "captions.count=1"],
    "conversations": ["dataset", "chat", "-o", "notes.txt/x.jsonl"],
    "faults": ["dataset", "check", "photos", "-o", "notes.txt/x.csv"],
    "another layout": ["dataset", "export", "photos", "--to", "folder", "-o", "notes.txt/x"],
    "an evaluation": ["evaluate", "--scenes", "1", "-o", "notes.txt/x"],
    "an editor": ["finetune", "base=MODEL", "dataset=pairs", "out=notes.txt/x"],
}
NO_MODEL = ("convert", "evaluate", "dataset", "finetune")


@pytest.mark.parametrize("words", REFUSED.values(), ids=REFUSED.keys())
def test_nothing_of_a_users_is_replaced(
    words: list[str], home: Path, editor_folder: Path, base_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = editor_folder if words[0] in ("edit", "grid", "batch", "convert") else base_folder
    shutil.copytree(model, home / "MODEL")
    if words[0] == "finetune":
        picture = Image.open("barn.png").copy()
        rows = {"original_image": [picture] * 3, "edit_prompt": ["a", "b", "c"], "edited_image": [picture] * 3}
        (home / "pairs").mkdir()
        Dataset.from_dict(rows).to_parquet(home / "pairs" / "train.parquet")
    if words[0] not in NO_MODEL:
        words = [*words, "--model", "MODEL"]
    before = listing(home)
    assert cli.run(words) == 2
    assert listing(home) == before
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("ip2p: ")]
    assert len(said) >= 1 and "should not happen" not in said[-1]


@pytest.mark.parametrize("words", IN_A_FILE.values(), ids=IN_A_FILE.keys())
def test_a_file_in_the_way_is_told_before_any_work(
    words: list[str], home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ip2p.data_gen.exchange.check.check_pairs", lambda _: pytest.fail("checked"))
    before = listing(home)
    assert cli.run(words) == 2
    assert listing(home) == before
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("ip2p: ")]
    assert "notes.txt" in said[-1] and "Give another " in said[-1]


ROWS: dict[str, dict[str, object]] = {
    "over its input": {"output": "barn.png"},
    "over a picture": {"output": "out.png"},
    "no name": {"output": "."},
    "a hidden name": {"output": ".old-x"},
    "outside": {"output": "../barn.png"},
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_a_bad_row_stops_no_other_and_sweeps_nothing(row: dict[str, object], home: Path, editor_folder: Path) -> None:
    """The folder above the results has files that look like leftovers."""
    for name in ("results.jsonl", "results.png"):
        (home / name).unlink()
    rows = [{"image": "barn.png", "instruction": "make it winter"} | extra for extra in (row, {"output": "good.png"})]
    (home / "edits.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    before = listing(home)
    out = ["-o", "."] if row["output"] in ("barn.png", "out.png") else ["-o", "results"]
    assert cli.run(["batch", "edits.jsonl", *out, "--steps", "1", "--model", str(editor_folder)]) == 2
    assert listing(home).items() >= before.items()
    assert (home / out[1] / "good.png").is_file()


def test_a_batch_replaces_no_result_of_another_file(home: Path, editor_folder: Path) -> None:
    batch = ["--steps", "1", "--model", str(editor_folder), "-o", "made"]
    row = {"image": "barn.png", "instruction": "make it winter", "output": "same.png", "seed": 1}
    (home / "one.jsonl").write_text(json.dumps(row))
    (home / "two.jsonl").write_text(json.dumps(row | {"instruction": "make it night"}))
    assert cli.run(["batch", "one.jsonl", *batch]) == 0
    first = (home / "made" / "same.png").read_bytes()
    records = (home / "made" / "results.jsonl").read_bytes()
    for output in ("same.png", "other.png"):
        (home / "two.jsonl").write_text(json.dumps(row | {"instruction": "make it night", "output": output}))
        assert cli.run(["batch", "two.jsonl", *batch]) == 2
    assert (home / "made" / "same.png").read_bytes() == first
    assert (home / "made" / "results.jsonl").read_bytes() == records
    (home / "made" / "results.png").unlink()  # as if the first had been killed
    assert cli.run(["batch", "two.jsonl", *batch]) == 0
    assert records in (home / "made" / "results.jsonl").read_bytes()


def test_the_very_result_may_be_made_again(home: Path, editor_folder: Path) -> None:
    words = [*EDIT, "-o", "new.png", "--model", str(editor_folder)]
    assert cli.run(words) == 0
    first = (home / "new.png").read_bytes()
    assert cli.run(words) == 0
    for other in (["--text-scale", "3"], ["--steps", "3"], ["--mask", "mask.png"], ["--negative-prompt", "fog"]):
        assert cli.run([*words, *other]) == 2
    assert cli.run([*words[:2], "make it night", *words[3:]]) == 2
    assert (home / "new.png").read_bytes() == first


@pytest.mark.parametrize("command", ["edit", "samples", "generate", "grid"])
def test_a_picture_that_comes_to_be_there_while_drawing_is_not_replaced(
    command: str,
    home: Path,
    editor_folder: Path,
    base_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = {
        "edit": [*EDIT, "--model", str(editor_folder)],
        "samples": [*EDIT, "--samples", "2", "--model", str(editor_folder)],
        "generate": ["generate", "a barn", "--seed", "7", "--steps", "1", "--model", str(base_folder)],
        "grid": ["grid", *EDIT[1:], "--text-scales", "1", "--image-scales", "1", "--model", str(editor_folder)],
    }[command]
    there = "new-7.png" if command == "samples" else "new.png"
    draw = Backbone.decode

    def draw_while_another_writes(*given: Any, **named: Any) -> Any:
        shutil.copy("barn.png", there)
        return draw(*given, **named)

    monkeypatch.setattr("ip2p.models.backbone.Backbone.decode", draw_while_another_writes)
    before = listing(home)
    assert cli.run([*words, "-o", "new.png"]) == 0
    after = listing(home)
    new = {"new.png", "new-2.png"} if command != "samples" else {"new-7.png", "new-7-2.png", "new-8.png"}
    assert after.keys() - before.keys() == new
    assert after[there] == before["barn.png"]
    captured = capsys.readouterr()
    assert f"{there} appeared while this was drawn, and is another picture: the result is {there[:-4]}-2.png" in (
        captured.err
    )
    assert captured.out.splitlines()[0].startswith(f"{there[:-4]}-2.png (seed 7")


def test_a_picture_that_comes_to_be_there_while_a_batch_draws_is_not_replaced(
    home: Path, editor_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = Backbone.decode

    def draw_while_another_writes(*given: Any, **named: Any) -> Any:
        shutil.copy("barn.png", "made/new.png")
        return draw(*given, **named)

    monkeypatch.setattr("ip2p.models.backbone.Backbone.decode", draw_while_another_writes)
    row = {"image": "barn.png", "instruction": "make it winter", "output": "new.png"}
    Path("edits.jsonl").write_text(json.dumps(row))
    assert cli.run(["batch", "edits.jsonl", "-o", "made", "--steps", "1", "--model", str(editor_folder)]) == 2
    assert Path("made/new.png").read_bytes() == Path("barn.png").read_bytes()
    assert "was not made by `ip2p batch`" in Path("made/results.jsonl").read_text()


def test_the_best_of_other_samples_replaces_the_one_before(home: Path, editor_folder: Path, capsys: Any) -> None:
    words = [*EDIT[:-2], "--samples", "2", "--keep-best", "--clip", "storybook-clip-b", "--steps", "1"]
    names = ["--model", str(editor_folder), "-o", "best.png", "--caption", "a barn", "--edited-caption", "a red barn"]
    before = listing(home)
    for seed in ("7", "70"):
        assert cli.run([*words, *names, "--seed", seed]) == 0
        assert capsys.readouterr().out.startswith(f"best.png (seed {seed[0]}")
    assert listing(home).keys() - before.keys() == {"best.png"}


def test_all_samples_are_saved_where_nothing_can_be_printed(
    home: Path, editor_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("builtins.print", full)
    with pytest.raises(OSError):  # as `ip2p edit ... > log` on a disk that is full
        cli.run([*EDIT, "--samples", "2", "-o", "new.png", "--model", str(editor_folder)])
    assert Path("new-7.png").is_file() and Path("new-8.png").is_file()


@pytest.mark.parametrize("target", ["nowhere", "way"])
def test_a_link_that_leads_nowhere_is_told_before_the_edit(
    target: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "way").symlink_to(target)
    assert cli.run([*EDIT, "-o", "way/new.png", "--model", "no/such"]) == 2
    assert f"nothing can be written to {home / 'way'}. Give another name with -o" in capsys.readouterr().err


def test_another_grid_caption_or_preview_is_not_replaced(
    home: Path, editor_folder: Path, base_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (32, 32), "navy").save("other.png")
    grid = ["--seed", "3", "--steps", "1", "--text-scales", "1,2", "-o", "grid.png", "--model", str(editor_folder)]
    assert cli.run(["grid", "barn.png", "make it winter", *grid, "--image-scales", "1"]) == 0
    assert cli.run(["grid", "barn.png", "make it winter", *grid, "--image-scales", "2"]) == 2
    assert cli.run(["grid", "other.png", "make it winter", *grid, "--image-scales", "1"]) == 2
    assert cli.run(["grid", "barn.png", "make it winter", *grid, "--image-scales", "1"]) == 0
    caption = ["generate", "a barn", "--seed", "3", "-o", "drawn.png", "--model", str(base_folder), "--steps"]
    assert (cli.run([*caption, "1"]), cli.run([*caption, "2"]), cli.run([*caption, "1"])) == (0, 2, 0)
    turns = ["make it winter", "make it night", "--seed", "1", "--steps", "2", "--model", str(editor_folder)]
    words = [*turns, "-o", "turns.png", "--save-progress", "--progress-every", "1"]
    assert cli.run(["edit", "barn.png", *words]) == 0
    before = listing(home)
    (home / "turns.png").unlink()
    assert cli.run(["edit", "other.png", *words]) == 2
    assert listing(home).items() < before.items()
    assert cli.run(["edit", "barn.png", *words]) == 0
    assert listing(home) == before


def test_a_users_files_inside_of_a_model_are_not_deleted(home: Path, editor_folder: Path) -> None:
    assert cli.run(["convert", str(editor_folder), "mine-too"]) == 0
    for name in ("notes.txt", "my-lora.safetensors", "settings.json"):
        (home / "mine-too" / "unet" / name).write_text("dear diary")
        for more in ([], ["--overwrite"]):
            assert cli.run(["convert", str(editor_folder), "mine-too", *more]) == 2
        (home / "mine-too" / "unet" / name).unlink()
    assert cli.run(["convert", str(editor_folder), "mine-too"]) == 0


def test_a_model_of_ip2ps_is_replaced_and_another_with_a_word(
    home: Path, editor_folder: Path, base_folder: Path
) -> None:
    assert cli.run(["convert", str(editor_folder), "own"]) == 0
    assert cli.run(["convert", str(base_folder), "own"]) == 0
    assert not load_backbone("own").is_editor
    (home / "own" / "diary.txt").write_text("dear")
    assert cli.run(["convert", str(editor_folder), "own"]) == 2
    (home / "own" / "diary.txt").unlink()
    shutil.copytree(base_folder, "theirs")
    assert cli.run(["convert", str(editor_folder), "theirs"]) == 2
    assert cli.run(["convert", str(editor_folder), "theirs", "--overwrite"]) == 0
    assert load_backbone("theirs").is_editor


def test_files_have_the_permissions_that_the_umask_says(home: Path, sd_base_folder: Path) -> None:
    before = os.umask(0o027)
    try:
        assert cli.run(["convert", str(sd_base_folder), "model.safetensors"]) == 0
    finally:
        os.umask(before)
    assert (home / "model.safetensors").stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written_to_is_told_before_the_edit(home: Path, editor_folder: Path) -> None:
    (home / "photos").chmod(0o500)
    assert cli.run([*EDIT, "-o", "photos/new.png", "--model", str(editor_folder)]) == 2


def test_a_full_disk_is_one_line(
    home: Path, editor_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "model/unet")

    backbone = load_backbone(editor_folder)
    monkeypatch.setattr("ip2p.models.folder.save_file", full)
    before = listing(home)
    with pytest.raises(DataError, match="model cannot be written .No space left"):
        save_backbone(backbone, home / "model", pipeline_class=backbone.pipeline_class)
    assert cli.run(["convert", str(editor_folder), "model"]) == 2
    assert "model cannot be written (No space left on device). Make room" in capsys.readouterr().err
    assert listing(home) == before


def test_a_batch_makes_edits_again_for_other_options_of_loading(
    home: Path, editor_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["batch", "edits.jsonl", "-o", "made", "--steps", "1", "--model", str(editor_folder)]
    assert cli.run(words) == 0
    assert cli.run(words) == 0
    assert "0 edited, 0 failed, 1 there before" in capsys.readouterr().out
    for more in (["--precision", "bf16"], ["--no-safety-checker"], ["--vae-tiling"]):
        assert cli.run([*words, *more]) == 0
        assert "1 edited, 0 failed, 0 there before" in capsys.readouterr().out


def test_a_row_that_names_a_pipe_stops_no_other(home: Path, editor_folder: Path) -> None:
    os.mkfifo("pipe.png")
    rows = [{"image": name, "instruction": "make it winter"} for name in ("pipe.png", "/dev/zero", "barn.png")]
    (home / "edits.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    assert cli.run(["batch", "edits.jsonl", "-o", "made", "--steps", "1", "--model", str(editor_folder)]) == 2
    results = [json.loads(line)["status"] for line in (home / "made" / "results.jsonl").read_text().splitlines()]
    assert results == ["failed", "failed", "done"]
