"""A file of edits: every row has its result, whatever the others are, and a kill loses and doubles nothing."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ip2p import Editor, cli
from ip2p.editing.batch import BatchRun, BatchSummary
from ip2p.errors import DataError
from ip2p.ownership import sole_writer
from ip2p.pictures.write import read_parameters
from ip2p.settings import EditSettings


def noise(seed: int, size: tuple[int, int] = (32, 32)) -> Image.Image:
    width, height = size
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def write_rows(path: Path, rows: list[Any]) -> Path:
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def results(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def editor(editor_folder: Path) -> Editor:
    return Editor.from_pretrained(str(editor_folder), device="cpu")


def save_pictures(folder: Path) -> None:
    for number, size in enumerate([(32, 32), (48, 24), (32, 32), (48, 24)]):
        noise(number, size).save(folder / f"{number}.png")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Four pictures of two sizes."""
    save_pictures(tmp_path)
    return tmp_path


def run(file: Path, editor: Editor, size: int = 4, **defaults: Any) -> BatchSummary:
    settings, out = {"steps": 1, **defaults}, file.with_suffix("")
    return BatchRun(file, out, lambda: editor, model="tiny", defaults=settings, size=size, say=lambda _: None).run()


def test_every_row_has_its_picture_and_those_of_one_size_go_together(
    pictures: Path, editor: Editor, monkeypatch: pytest.MonkeyPatch
) -> None:
    together: list[int] = []
    plain = editor.edit

    def counted(images: Any, *rest: Any, **settings: Any) -> Any:
        together.append(len(images))
        return plain(images, *rest, **settings)

    monkeypatch.setattr(editor, "edit", counted)
    mask = Image.new("L", (48, 24))
    mask.paste(255, (0, 0, 24, 24))
    mask.save(pictures / "mask.png")
    rows: list[Any] = [{"image": f"{number}.png", "instruction": "make it winter", "seed": 5} for number in range(4)]
    rows[1] |= {"mask": "mask.png", "output": "deep/er/masked.png"}
    rows.append({"image": "0.png", "instruction": "make it night", "samples": 3, "output": "night.png", "seed": 7})
    rows.append({"image": "2.png", "instructions": ["make it night", "a cow"], "text_scale": 2.0})
    file = write_rows(pictures / "edits.jsonl", rows)
    assert run(file, editor, size=4) == BatchSummary(done=8, failed=0, before=0)
    assert sorted(together) == [1, 1, 1, 2, 4]
    message = results(file.with_suffix(""))
    assert [each["line"] for each in message] == [1, 2, 3, 4, 5, 5, 5, 6]
    assert [each["seed"] for each in message[:7]] == [5, 5, 5, 5, 7, 8, 9]
    assert [each["output"] for each in message[4:7]] == ["night-7.png", "night-8.png", "night-9.png"]
    for each in message:
        parameters = read_parameters(file.with_suffix("") / each["output"])
        assert (parameters["instruction"], parameters["edit"]) == (each["instructions"][-1], each["id"])
    (alone,) = plain(noise(2), "make it winter", seeds=5, steps=1)
    made = np.asarray(Image.open(file.with_suffix("") / message[2]["output"])).astype(int)
    assert np.abs(made - np.asarray(alone.image)).max() <= 1
    masked = np.asarray(Image.open(file.with_suffix("") / "deep/er/masked.png"))
    assert np.array_equal(masked[:, 24:], np.asarray(noise(1, (48, 24)))[:, 24:])
    with Image.open(file.with_suffix("") / "results.png") as sheet:
        assert sheet.height > 8 * 32


def test_a_row_takes_every_setting_a_preset_and_a_negative_prompt(pictures: Path, editor: Editor) -> None:
    values: dict[str, Any] = {
        "text_scale": 3.0, "image_scale": 1.2, "steps": 3, "scheduler": "ddim", "resolution": 24, "text_every": 2,
        "image_every": 2, "extrapolate": 0.5, "hold_after": 0.9, "guidance_start": 0.1, "guidance_stop": 0.9,
        "rescale": 0.5, "reuse": 2, "tolerance": 0.0, "keep_unchanged": True,
    }  # fmt: skip
    assert values.keys() == EditSettings.model_fields.keys()
    row = {"image": "0.png", "instruction": "make it winter", "seed": 5}
    rows = [row | values, row | {"preset": "fast", "steps": 2}, row | {"negative_prompt": "fog"}, row]
    file = write_rows(pictures / "edits.jsonl", rows)
    assert run(file, editor, text_every=3) == BatchSummary(done=4, failed=0, before=0)
    made = [read_parameters(file.with_suffix("") / each["output"]) for each in results(file.with_suffix(""))]
    recorded = {name: value for name, value in values.items() if name != "tolerance"}
    assert recorded.items() <= made[0].items()
    assert (made[1]["scheduler"], made[1]["steps"], made[1]["text_every"]) == ("dpm", 2, 2)
    assert made[2]["negative_prompt"] == "fog" and "negative_prompt" not in made[3]
    assert made[3]["text_every"] == 3 and len({each["edit"] for each in made}) == 4


def test_a_result_is_stale_when_what_it_was_made_of_has_changed(pictures: Path, editor: Editor) -> None:
    mask = Image.new("L", (32, 32), 255)
    mask.save(pictures / "mask.png")
    rows = [{"image": "0.png", "instruction": "make it winter"}, {"image": "2.png", "instruction": "a cow"}]
    file = write_rows(pictures / "edits.jsonl", [rows[0] | {"mask": "mask.png"}, rows[1]])

    def again(weights: str = "one") -> BatchSummary:
        batch = BatchRun(
            file, file.with_suffix(""), lambda: editor, model="tiny", weights=weights, defaults={"steps": 1}, size=4,
            say=str,
        )  # fmt: skip
        return batch.run()

    assert again() == BatchSummary(done=2, failed=0, before=0)
    assert again() == BatchSummary(done=0, failed=0, before=2)
    noise(9).save(pictures / "2.png")
    assert again() == BatchSummary(done=1, failed=0, before=1)
    mask.paste(0, (0, 0, 16, 16))
    mask.save(pictures / "mask.png")
    assert again() == BatchSummary(done=1, failed=0, before=1)
    assert again("two") == BatchSummary(done=2, failed=0, before=0)


def test_a_stale_result_of_a_given_name_is_told_and_kept(pictures: Path, editor: Editor) -> None:
    row = {"image": "0.png", "instruction": "make it winter", "output": "winter.png"}
    file = write_rows(pictures / "edits.jsonl", [row])
    assert run(file, editor) == BatchSummary(done=1, failed=0, before=0)
    before = (file.with_suffix("") / "winter.png").read_bytes()
    noise(9).save(pictures / "0.png")
    assert run(file, editor) == BatchSummary(done=0, failed=1, before=0)
    assert "is the result of another edit" in results(file.with_suffix(""))[0]["error"]
    assert (file.with_suffix("") / "winter.png").read_bytes() == before


HOSTILE: dict[str, tuple[Any, str]] = {
    "no JSON": (b'{"image": "0.png", ', "line 1 is not JSON"),
    "bytes": (b"\xff\xfe\x00", "line 1 is not JSON"),
    "brackets without end": (b"[" * 200_000, "line 1 is not JSON"),
    "half of a character": ({"image": "0.png", "instruction": "a \ud83d"}, "line 1 has half of a character"),
    "a key twice": (b'{"image": "0.png", "instruction": "a", "instruction": "b"}', "the key 'instruction' twice"),
    "a link to itself": ({"image": "loop/a.png", "instruction": "a"}, "there is no picture"),
    "a list": ([1], "line 1 is no object"),
    "no image": ({"instruction": "a"}, "line 1 has no image. Give the name of a picture"),
    "no instruction": ({"image": "0.png"}, "has to have an instruction"),
    "a blank instruction": ({"image": "0.png", "instruction": " "}, "instruction=' ' cannot be used. Give a text"),
    "both": ({"image": "0.png", "instruction": "a", "instructions": ["b"]}, "and not both"),
    "no turns": ({"image": "0.png", "instructions": []}, "instructions=[] cannot be used"),
    "an unknown key": ({"image": "0.png", "instruction": "a", "scale": 3}, "unknown key 'scale'. Known are image"),
    "a scale in words": (
        {"image": "0.png", "instruction": "a", "text_scale": "big"},
        "text_scale='big' cannot be used. Give text_scale as a number",
    ),
    "a scale that is no number": (b'{"image": "0.png", "instruction": "a", "image_scale": NaN}', "image_scale=nan"),
    "a scale without end": (b'{"image": "0.png", "instruction": "a", "text_scale": 1e999}', "text_scale=inf"),
    "no steps": ({"image": "0.png", "instruction": "a", "steps": 0}, "steps=0 cannot be used. Give steps as 1 to 1000"),
    "an unknown scheduler": ({"image": "0.png", "instruction": "a", "scheduler": "plms"}, "scheduler='plms'"),
    "a negative seed": ({"image": "0.png", "instruction": "a", "seed": -1}, "seed=-1 cannot be used"),
    "a seed of truth": ({"image": "0.png", "instruction": "a", "seed": True}, "seed=True cannot be used"),
    "a missing picture": ({"image": "9.png", "instruction": "a"}, "9.png. Check the name"),
    "a picture of zeros": ({"image": "a\0b.png", "instruction": "a"}, "there is no picture"),
    "a text for a picture": ({"image": "hostile.jsonl", "instruction": "a"}, "is not a readable picture"),
    "a mask of another size": (
        {"image": "0.png", "instruction": "a", "mask": "1.png"},
        "1.png is 48 x 24 pixels, the picture 32 x 32",
    ),
    "an output outside": ({"image": "0.png", "instruction": "a", "output": "../0.png"}, "outside of the folder"),
    "an output far outside": ({"image": "0.png", "instruction": "a", "output": "/tmp/a.png"}, "outside of the folder"),
    "an output inside and out": ({"image": "0.png", "instruction": "a", "output": "a/../../0.png"}, "outside of"),
    "an output by a link": ({"image": "0.png", "instruction": "a", "output": "link/0.png"}, "is a link"),
    "an output of another kind": ({"image": "0.png", "instruction": "a", "output": "a.exe"}, "ends in .png"),
    "an output of ours": ({"image": "0.png", "instruction": "a", "output": "results.png"}, "sheet of all results"),
    "an output below ours": ({"image": "0.png", "instruction": "a", "output": "results.png/a.png"}, "in the place of"),
    "a long name": ({"image": "0.png", "instruction": "a", "output": "n" * 255 + ".png"}, "than 255 bytes"),
    "an output that is there": ({"image": "0.png", "instruction": "a", "output": "mine.png"}, "was not made by"),
}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory, editor: Editor) -> list[dict[str, Any]]:
    """Results of all bad rows in one file, each with a good one behind it."""
    folder = tmp_path_factory.mktemp("hostile")
    save_pictures(folder)
    out = folder / "hostile"
    out.mkdir()
    (out / "link").symlink_to(folder)
    (folder / "loop").symlink_to("loop")
    noise(9).save(out / "mine.png")
    before = {path: path.read_bytes() for path in [*folder.glob("*.png"), out / "mine.png"]}
    rows: list[Any] = []
    for number, (row, _) in enumerate(HOSTILE.values()):
        rows += [row, {"image": "2.png", "instruction": "a", "output": f"good-{number}.png"}]
    file = write_rows(folder / "hostile.jsonl", rows)
    assert run(file, editor) == BatchSummary(done=len(HOSTILE), failed=len(HOSTILE), before=0)
    assert all(path.read_bytes() == content for path, content in before.items())
    assert {path.name for path in folder.iterdir()} == {*(f"{k}.png" for k in range(4)), "hostile", file.name, "loop"}
    good = {f"good-{number}.png" for number in range(len(HOSTILE))}
    assert {path.name for path in out.iterdir()} == good | {"link", "mine.png", "results.jsonl", "results.png"}
    return results(out)


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_bad_row_is_told_and_stops_no_other(kind: str, hostile: list[dict[str, Any]]) -> None:
    number = list(HOSTILE).index(kind)
    bad, good = hostile[2 * number : 2 * number + 2]
    line, said = 2 * number + 1, HOSTILE[kind][1]
    assert (bad["line"], bad["status"]) == (line, "failed")
    assert (good["status"], good["output"]) == ("done", f"good-{number}.png")
    assert re.sub(r"^line 1\b", f"line {line}", said) in bad["error"] and "\n" not in bad["error"]


def test_rows_that_are_equal_are_edits_of_their_own_and_outputs_are_not_shared(pictures: Path, editor: Editor) -> None:
    row = {"image": "0.png", "instruction": "a cow"}
    named = row | {"output": "Cow.png"}
    file = write_rows(pictures / "edits.jsonl", [row, row, named, row | {"output": "cow.png"}])
    assert run(file, editor) == BatchSummary(done=3, failed=1, before=0)
    message = results(pictures / "edits")
    assert len({each["id"] for each in message}) == 4 and len({each["seed"] for each in message[:2]}) == 2
    assert "output of line 3 too" in message[3]["error"]


def test_a_second_run_makes_what_is_missing_or_new_alone(pictures: Path, editor: Editor) -> None:
    rows = [{"image": f"{number}.png", "instruction": "make it winter"} for number in (0, 1, 9)]
    file = write_rows(pictures / "edits.jsonl", rows)
    assert run(file, editor) == BatchSummary(done=2, failed=1, before=0)
    first, second, _ = results(pictures / "edits")
    kept = (pictures / "edits" / first["output"]).stat().st_mtime_ns
    (pictures / "edits" / second["output"]).unlink()
    noise(9).save(pictures / "9.png")
    write_rows(file, [{"image": "3.png", "instruction": "a cow"}, *rows])
    assert run(file, editor) == BatchSummary(done=3, failed=0, before=1)
    message = results(pictures / "edits")
    assert [each["line"] for each in message] == [1, 2, 3, 4] and message[1]["output"] == first["output"]
    assert (pictures / "edits" / first["output"]).stat().st_mtime_ns == kept
    assert run(file, editor) == BatchSummary(done=0, failed=0, before=4)
    assert run(file, editor, text_scale=9.0).done == 4


def test_one_run_at_a_time_writes_to_a_folder(pictures: Path, editor: Editor) -> None:
    file = write_rows(pictures / "edits.jsonl", [{"image": "0.png", "instruction": "make it winter"}])
    out = pictures / "edits"
    out.mkdir()
    with sole_writer(out):
        with pytest.raises(DataError, match="another run is writing to .*edits"):
            run(file, editor)
        assert not any(out.iterdir())
    assert run(file, editor).done == 1


def test_what_lies_on_the_disk_counts_without_its_line(pictures: Path, editor: Editor) -> None:
    """A kill between the picture and its line, and one within the line."""
    file = write_rows(
        pictures / "edits.jsonl", [{"image": f"{k}.png", "instruction": "a", "seed": 1} for k in range(3)]
    )
    run(file, editor)
    whole = (pictures / "edits/results.jsonl").read_bytes()
    for torn in (b"", whole[:-30], whole[: len(whole) // 2]):
        (pictures / "edits/results.jsonl").write_bytes(torn)
        assert run(file, editor) == BatchSummary(done=0, failed=0, before=3)
        assert (pictures / "edits/results.jsonl").read_bytes() == whole


def test_one_that_fails_while_it_is_edited_takes_no_other_with_it(
    pictures: Path, editor: Editor, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = editor.edit

    def failing(images: Any, texts: Any, **settings: Any) -> Any:
        if "too much" in texts:
            raise RuntimeError("out of\nmemory")
        return plain(images, texts, **settings)

    monkeypatch.setattr(editor, "edit", failing)
    texts = ["a", "too much", "b"]
    file = write_rows(pictures / "edits.jsonl", [{"image": "0.png", "instruction": text} for text in texts])
    assert run(file, editor) == BatchSummary(done=2, failed=1, before=0)
    assert [each.get("error") for each in results(pictures / "edits")] == [None, "RuntimeError: out of memory", None]


def test_pictures_do_not_wait_for_ever(pictures: Path, editor: Editor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory stays as it is over any number of pictures."""
    monkeypatch.setattr("ip2p.editing.batch.MAX_WAITING_PIXELS", 3 * 32 * 32)
    rows = [{"image": f"{number % 4}.png", "instruction": f"make it {number}"} for number in range(16)]
    file = write_rows(pictures / "edits.jsonl", rows)
    held: list[int] = []
    batch = BatchRun(
        file, pictures / "edits", lambda: editor, model="t", defaults={"steps": 1}, size=100, say=lambda line: None
    )
    plain = batch._edit
    monkeypatch.setattr(batch, "_edit", lambda group: (held.append(batch._waiting_pixels()), plain(group))[1])
    assert batch.run().done == 16
    assert len(held) > 4 and max(held) <= 3 * 32 * 32


DRIVER = """
import os, sys
from pathlib import Path
from ip2p import Editor
from ip2p.editing.batch import BatchRun

file, editor = Path(sys.argv[1]), Editor.from_pretrained(sys.argv[2], device="cpu")
for line in sys.stdin:  # each line is a run of its own, in a process of its own
    child = os.fork()
    if not child:
        BatchRun(file, file.with_suffix(""), lambda: editor, model="m", defaults={"steps": 1}, size=4,
              say=lambda line: None).run()
        os._exit(0)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on(pictures: Path, editor_folder: Path) -> None:
    rows = [
        {"image": f"{number % 4}.png", "instruction": f"make it {number}", "output": f"{number}.png"}
        for number in range(24)
    ]
    file, out = write_rows(pictures / "edits.jsonl", rows), pictures / "edits"
    command = [sys.executable, "-c", DRIVER, str(file), str(editor_folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def made() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in out.glob("[0-9]*.png")}

    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as driver:
        assert driver.stdin and driver.stdout
        kept: dict[str, int] = {}
        for more in (1, 2, 4, 7, 24):
            driver.stdin.write("go\n")
            driver.stdin.flush()
            child = int(driver.stdout.readline())
            while more < 24 and len(made()) < len(kept) + more:
                time.sleep(0.001)
            if more < 24:
                os.kill(child, signal.SIGKILL)
            assert int(driver.stdout.readline()) == (signal.SIGKILL if more < 24 else 0)
            now = made()
            assert kept.items() <= now.items() and len(kept) < len(now)
            assert all(read_parameters(out / name)["edit"] for name in now)
            kept = now
        driver.stdin.close()
    assert len(kept) == 24 and not list(out.glob(".ip2p-*"))
    message = results(out)
    assert Counter(each["output"] for each in message) == Counter(f"{number}.png" for number in range(24))
    assert {each["status"] for each in message} == {"done"}


def test_the_command_tells_what_became_of_all(
    pictures: Path, editor_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"image": "0.png", "instruction": "a"}, {"image": "9.png", "instruction": "a"}]
    file = write_rows(pictures / "edits.jsonl", rows)
    words = ["batch", str(file), "--model", str(editor_folder), "--steps", "1"]
    assert cli.run(words) == 2
    output, errors = capsys.readouterr()
    assert output == f"{pictures}/edits-edited/results.jsonl: 1 edited, 1 failed, 0 there before\n"
    assert "line 2 failed: there is no picture" in errors
    noise(9).save(pictures / "9.png")
    assert cli.run(words) == 0
    assert "1 edited, 0 failed, 1 there before" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["missing.jsonl"], "there is no file missing.jsonl"),
        (["empty.jsonl"], "empty.jsonl has no rows"),
        (["rows.jsonl", "-o", "rows.jsonl"], "rows.jsonl is a file"),
        (["rows.jsonl", "--model", "no/such"], "no/such"),
        (["rows.jsonl", "--text-scale", "nan"], "--text-scale nan cannot be used. Give --text-scale as a number"),
    ],
)
def test_a_batch_that_cannot_be_leaves_nothing(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    Path("empty.jsonl").touch()
    write_rows(Path("rows.jsonl"), [{"image": "a.png", "instruction": "a"}])
    assert cli.run(["batch", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line and sorted(path.name for path in tmp_path.iterdir()) == ["empty.jsonl", "rows.jsonl"]
