"""Data sets of a run: every layout trains, bad rows are told or left out, and sets are put together."""

import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from accelerate.state import AcceleratorState
from datasets import Dataset, Features, Value
from datasets import Image as Picture
from pair_files import LAYOUTS, ROWS, encode, make_rows, table, web_dataset, write_files
from PIL import Image

from ip2p.cli import run
from ip2p.config import load_config
from ip2p.errors import DataError
from ip2p.models.backbone import load_backbone
from ip2p.pairs import check, memory
from ip2p.pairs.headers import measure
from ip2p.train.batches import Batches
from ip2p.train.config import DataSource, FinetuneConfig
from ip2p.train.fit import Run, make_batches
from ip2p.train.metrics import read_metrics
from ip2p.train.order import Part
from ip2p.train.pairs import _held_out_rows, open_pairs


@pytest.fixture
def settings(tiny_base: Path, tmp_path: Path) -> list[str]:
    """Return the settings of a run of five steps."""
    chosen = {
        "base": tiny_base, "out": tmp_path / "run", "steps": 5, "batch": 2, "precision": "fp32", "size": 32,
        "checkpoint_every": 100, "validate_every": 100, "threads": 1, "minutes": "null", "cache_latents": "false",
        "schedule": "constant",
    }  # fmt: skip
    return [f"{key}={value}" for key, value in chosen.items()]


def losses(settings: list[str], out: Path, *more: str, say: Callable[[str], None] = lambda _: None) -> list[float]:
    """Train, or go on, up to the last step, and return the loss of each step."""
    AcceleratorState._reset_state(reset_partial_state=True)
    session = Run(load_config(FinetuneConfig, "storybook_finetune.yaml", [*settings, *more, f"out={out}"]), say)
    while session.done < 1:
        session.advance(session.step(), 0)
    session.save()
    return [row["loss"] for row in read_metrics(out / "metrics.jsonl") if "loss" in row]


@pytest.fixture(scope="module")
def seen() -> dict[str, list[float]]:
    """Losses of the layouts that have been trained."""
    return {}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_trains_alike(layout: str, settings: list[str], tmp_path: Path, seen: dict[str, Any]) -> None:
    """The authors' split is another, so that other pairs come; all others have the same losses."""
    write, more = LAYOUTS[layout]
    (tmp_path / "data").mkdir()
    seen[layout] = losses(settings, tmp_path / "run", f"dataset={write(tmp_path / 'data')}", *more)
    assert len(seen[layout]) == 5
    if layout != "seeds.json":
        assert seen[layout] == next(iter(seen.values()))


def plant_faults(folder: Path) -> list[str]:
    """Write good rows and five with a fault; returns the places of the latter."""
    write_files(folder, ROWS, "{}-a.png", "{}-b.png")
    (folder / "torn.png").write_bytes(ROWS[0][1][:-30])
    (folder / "large.png").write_bytes(encode(Image.new("RGB", (64, 32))))
    (folder / "wide.txt").write_text("no picture")
    good = [
        {
            "original_image": f"{number:03d}-a.png",
            "edited_image": f"{number:03d}-b.png",
            "edit_prompt": f"edit {number}",
        }
        for number in range(len(ROWS))
    ]
    faults: list[dict[str, Any]] = [
        {"edited_image": "torn.png"}, {"edited_image": "large.png"}, {"original_image": "gone.png"},
        {"edit_prompt": "  "}, {"edit_prompt": ["make it winter", "add snow"]},
    ]  # fmt: skip
    rows = good[:3] + [good[0] | fault for fault in faults] + good[3:]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return [f"metadata.jsonl, row {number}" for number in range(3, 8)]


def test_five_planted_faults_are_told_and_can_be_left_out(
    settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    places = plant_faults(folder)
    assert run(["dataset", "check", str(folder), "-o", str(tmp_path / "faults.csv")]) == 1
    with (tmp_path / "faults.csv").open() as stream:
        listed = {row["row"] for row in csv.DictReader(stream) if row["fault"] not in ("near duplicate", "duplicate")}
    assert set(places) <= listed
    with pytest.raises(DataError) as caught:
        losses(settings, tmp_path / "run", f"dataset={folder}")
    message = str(caught.value)
    assert all(place in message for place in places) and "bad_rows=skip" in message and "\n" not in message
    assert "5 of 25 rows" in message and "gone.png" in message and "64 x 32" in message and "a list" in message
    said: list[str] = []
    assert len(losses(settings, tmp_path / "run", f"dataset={folder}", "bad_rows=skip", say=said.append)) == 5
    assert any("5 of 25 rows" in line for line in said)
    assert all(any(place in line for line in said) for place in places)
    capsys.readouterr()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"edit_prompt": ["a", None, "b"]}, r"1 of 3 rows .* no instruction \(train, row 1\)"),
        ({"edit_prompt": ["a", "b", " "]}, r"1 of 3 rows .* no instruction \(train, row 2\)"),
        ({"edit_prompt": [1, 2, 3]}, r"3 of 3 rows .* the instruction is a number, not a text \(train, row 0; train"),
        ({"edit_prompt": [["a"], ["b"], ["c"]]}, "the instruction is a list, not a text"),
        ({"edited_image": ["a.png", "b.png", "c.png"]}, "no edited picture 'a.png' .* no edited picture 'b.png'"),
        ({"original_image": [b"a", b"b", b"c"]}, "the source picture is not a readable picture"),
        ({"original_image": [1, 2, 3]}, "the source picture is a number, not a picture"),
        ({"original_image": [None] * 3}, "no row of .* has a picture to edit.*columns.original"),
    ],
)
def test_columns_of_other_types_are_told(columns: dict[str, Any], message: str, tmp_path: Path) -> None:
    photo = {"bytes": ROWS[0][0], "path": None}
    rows = {"original_image": [photo] * 3, "edit_prompt": ["a", "b", "c"], "edited_image": [photo] * 3} | columns
    Dataset.from_dict(rows).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(DataError, match=message):
        open_pairs(tmp_path)


def test_columns_that_are_not_there_are_told_with_those_that_are(tmp_path: Path) -> None:
    table(("before", "result", "words"), ROWS[:3]).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(DataError, match=r"columns.edited\), but before, result, words .*|columns.instruction"):
        open_pairs(tmp_path)
    named = {"edited": "result", "instruction": "word"}
    with pytest.raises(DataError, match="no column word, but before, result, words"):
        open_pairs(DataSource.model_validate({"path": str(tmp_path), "columns": named}))


def test_one_instruction_for_all(tmp_path: Path) -> None:
    write_files(tmp_path, ROWS, "control/{}.png", "target/{}.png")
    with pytest.raises(DataError, match="no instruction"):
        open_pairs(tmp_path)
    pairs = open_pairs(DataSource(path=str(tmp_path), instruction="make it blue"))
    assert set(pairs.train["edit_prompt"]) == {"make it blue"} and len(pairs.train) == len(ROWS) - 1


def test_rows_without_a_picture_to_edit_train_without_one(settings: list[str], tmp_path: Path, tiny_base: Path) -> None:
    folder = tmp_path / "data"
    write_files(folder, ROWS, "{}-a.png", "{}-b.png")
    rows: list[dict[str, Any]] = [
        {"original_image": f"{n:03d}-a.png" if n % 2 else None, "edited_image": f"{n:03d}-b.png", "edit_prompt": "x"}
        for n in range(len(ROWS))
    ]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    said: list[str] = []
    pairs = open_pairs(folder, say=said.append)
    assert pairs.without == frozenset(range(0, len(pairs.train), 2)) and "10 of 19" in said[-1]
    backbone = load_backbone(tiny_base)
    config = load_config(FinetuneConfig, None, [*settings, "batch=4"])
    batches = make_batches(pairs, backbone, config, size=32)
    for position in range(0, 16, 4):
        latents = batches.at(range(position, position + 4))[1]
        for place in range(4):
            absent = batches.order.row(position + place) in pairs.without
            assert bool((latents.condition[place] == 0).all()) == absent and latents.mean[place].any()
    more = [f"dataset={folder}", "changed_weight=2", "minutes=null"]
    assert len(losses(settings, tmp_path / "run", *more)) == 5
    AcceleratorState._reset_state(reset_partial_state=True)
    more += [f"out={tmp_path / 'run'}"]
    session = Run(load_config(FinetuneConfig, "storybook_finetune.yaml", [*settings, *more]), lambda _: None)
    weight = session.batch_at(range(16)).weight
    assert weight is not None
    for place in range(16):  # without a picture to edit, nothing is changed more than the rest
        assert bool((weight[place] == 1).all()) == (session.batches.order.row(place) in pairs.without)


def test_what_is_held_out_has_pictures_to_edit_and_triples_of_its_own(tmp_path: Path) -> None:
    """Rows without a picture to edit come last, and row 37 is another candidate of row 0's triple."""
    names = ("original_image", "edited_image", "edit_prompt")
    texts = [str(number) for number in range(40)]
    texts[37] = texts[0]
    rows = table(names, [(*ROWS[number % 20][:2], text) for number, text in enumerate(texts)]).to_list()
    for number, row in enumerate(rows):
        row |= {"original_image": None if number > 37 else row["original_image"]}
        row |= {"original_prompt": "a meadow", "edited_prompt": f"a meadow, {row['edit_prompt']}"}
    Dataset.from_list(rows).to_parquet(tmp_path / "train.parquet")
    pairs = open_pairs(tmp_path)
    assert list(pairs.held_out["edit_prompt"]) == ["36"]
    assert list(pairs.train["edit_prompt"]) == texts[:36] + texts[38:] and pairs.without == {36, 37}


def test_held_out_pairs_of_several_sets_come_in_the_shares_of_training() -> None:
    equal = [Part(range(0, 900)), Part(range(900, 1800))]
    rows = _held_out_rows([500, 500], equal)
    assert rows == [*range(32), *range(500, 532)]
    weighted = [Part(range(0, 10), 3.0), Part(range(10, 900), 1.0), Part(range(900, 905))]
    assert [sum(row // 100 == part for row in _held_out_rows([100, 100, 100], weighted)) for part in range(3)] == [
        38,
        13,
        13,
    ]
    assert _held_out_rows([1, 100], equal) == list(range(64))  # what one does not have, the other gives
    assert _held_out_rows([2, 3], equal) == list(range(5))


def test_rows_without_captions_are_triples_of_their_own_in_every_set(tmp_path: Path) -> None:
    for name in ("one", "two"):
        table(("original_image", "edited_image", "edit_prompt"), ROWS).to_parquet(tmp_path / name / "train.parquet")
    assert len(set(open_pairs(tmp_path / "one", tmp_path / "two").triples)) == 38


def test_texts_and_names_that_no_table_can_hold_are_told(tmp_path: Path) -> None:
    write_files(tmp_path, ROWS[:4], "{}-a.png", "{}-b.png")
    (tmp_path / os.fsdecode(b"004-\xff.png")).write_bytes(ROWS[0][0])
    rows = [{"before": f"{n:03d}-a.png", "after": f"{n:03d}-b.png", "edit": "x"} for n in range(4)]
    rows += [rows[0] | {"edit": "half \ud83d"}, rows[0] | {"after": os.fsdecode(b"004-\xff.png")}]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(DataError, match=r"half of a character .*row 4.*not UTF-8 .*row 5"):
        open_pairs(tmp_path)
    assert len(open_pairs(tmp_path, bad_rows="skip").train) == 3


def test_sets_of_unlike_types_and_layouts_are_mixed(settings: list[str], tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
    photo = {"bytes": ROWS[0][0], "path": None}
    plain = {"source_image": [photo] * 4, "edit": ["a"] * 4, "target_image": [ROWS[0][1]] * 4, "id": [1, 2, 3, 4]}
    Dataset.from_dict(plain).to_parquet(tmp_path / "one" / "train.parquet")
    web_dataset(tmp_path / "two")
    large = Features({"original_image": Picture(), "edited_image": Picture(), "edit_prompt": Value("large_string")})
    table(("original_image", "edited_image", "edit_prompt"), ROWS).cast(large).to_parquet(
        tmp_path / "three" / "train.parquet"
    )
    sources = f"[{{path: {tmp_path / 'one'}, weight: 3}}, {tmp_path / 'two'}, {tmp_path / 'three'}]"
    pairs = open_pairs(*load_config(FinetuneConfig, None, [f"dataset={sources}"]).datasets)
    assert [len(part.rows) for part in pairs.parts] == [3, 19, 19] and len(pairs.held_out) == 3
    assert len(losses(settings, tmp_path / "run", f"dataset={sources}")) == 5


def test_buckets_train_shapes_and_go_on_exactly(settings: list[str], tmp_path: Path, tiny_base: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    rows = make_rows(8, (32, 32)) + make_rows(6, (60, 34)) + make_rows(6, (30, 58))
    table(("original_image", "edited_image", "edit_prompt"), rows).to_parquet(folder / "train.parquet")
    pairs = open_pairs(folder)
    config = load_config(FinetuneConfig, None, [*settings, "buckets=true"])
    batches = make_batches(pairs, load_backbone(tiny_base), config, size=32)
    shapes = {tuple(batches.at(range(2 * step, 2 * step + 2))[1].mean.shape[2:]) for step in range(12)}
    assert (8, 8) in shapes and len(shapes) == 3
    more = (f"dataset={folder}", "buckets=true", "candidates=one")
    whole = losses(settings, tmp_path / "run", *more)
    assert losses(settings, tmp_path / "again", *more, "steps=2") == whole[:2]
    assert losses(settings, tmp_path / "again", *more) == whole


def test_pictures_of_all_kinds_are_read_before_the_first_step(tmp_path: Path, tiny_base: Path) -> None:
    """Deep, transparent, gray and turned pictures are fine; torn ones of every format are told."""
    photo = Image.linear_gradient("L").resize((40, 32)).convert("RGB")
    clear = photo.copy()
    clear.putalpha(90)
    (exif := Image.Exif())[0x0112] = 6
    turned = io.BytesIO()
    photo.resize((32, 40)).save(turned, "JPEG", exif=exif)
    deep = encode(
        Image.linear_gradient("L").resize((40, 32)).convert("I").point(lambda value: value * 257).convert("I;16")
    )
    good = [deep, encode(clear), encode(photo.convert("L")), turned.getvalue()]
    good += [encode(photo, kind) for kind in ("JPEG", "WEBP", "GIF", "TIFF", "BMP")]
    torn = [each[: 2 * len(each) // 3] for each in good]
    flipped = bytearray(encode(photo))
    flipped[len(flipped) // 2] ^= 1
    bad = [*torn, bytes(flipped), b"%PDF-1.7", b"\0" * 100]
    stored = [{"bytes": each, "path": None} for each in good + bad]
    base = [{"bytes": encode(photo), "path": None}] * len(stored)
    Dataset.from_dict({"before": base, "after": stored, "edit": ["x"] * len(stored)}).to_parquet(
        tmp_path / "train.parquet"
    )
    pairs = open_pairs(tmp_path, bad_rows="skip")
    assert len(pairs.train) + len(pairs.held_out) == len(good)
    batches = Batches(pairs.train, load_backbone(tiny_base), size=32, seed=0, flip=False)
    for row in range(len(pairs.train)):
        assert [image.size for image in batches.pictures(row)] == [(32, 32)] * 2


@pytest.mark.parametrize("layout", ["instructpix2pix", "two folders", "webdataset"])
def test_a_checked_set_is_not_read_again_until_it_changes(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "LARGE", 10)
    path, read = LAYOUTS[layout][0](tmp_path), list[str]()
    monkeypatch.setattr(check, "measure", lambda data, name: read.append(name) or measure(data, name))
    first, again = open_pairs(path), open_pairs(path)
    assert len(read) == 2 * len(ROWS) and first.train[:] == again.train[:] and first[2:] == again[2:]
    changed = next(each for each in sorted(path.rglob("*")) if each.suffix in (".parquet", ".tar", ".png"))
    os.utime(changed, (1, 1))
    assert open_pairs(path)[2:] == first[2:] and len(read) == 4 * len(ROWS)


def test_a_set_of_the_hub_that_cannot_be_had_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="hf download --repo-type dataset osunlp/MagicBrush") as caught:
        open_pairs("osunlp/MagicBrush")
    assert "\n" not in str(caught.value)


def test_the_packed_data_set_is_read_and_some_pairs_are_held_out(pairs_folder: Path) -> None:
    pairs = open_pairs(pairs_folder)
    assert (len(pairs.train), len(pairs.held_out)) == (20, 1)
    assert pairs.fingerprint() == open_pairs(pairs_folder).fingerprint()


def test_a_test_split_is_what_is_held_out(tmp_path: Path, make_pairs: Callable[..., Path]) -> None:
    make_pairs(tmp_path, 5)
    make_pairs(tmp_path / "more", 3).joinpath("train-00000.parquet").rename(tmp_path / "test-00000.parquet")
    pairs = open_pairs(tmp_path)
    assert (len(pairs.train), len(pairs.held_out)) == (5, 3)


def test_bad_data_sets_are_told_in_one_line(tmp_path: Path, make_pairs: Callable[..., Path]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "torn").mkdir()
    whole = make_pairs(tmp_path / "whole", 5) / "train-00000.parquet"
    (tmp_path / "torn" / "train.parquet").write_bytes(whole.read_bytes()[:-500])
    (tmp_path / "columns").mkdir()
    Dataset.from_dict({"edit_prompt": ["x"], "image": ["y"]}).to_parquet(tmp_path / "columns" / "train.parquet")
    make_pairs(tmp_path / "one", 1)
    said = {
        "missing": "no data set",
        "empty": "no layout",
        "torn": "cannot read",
        "columns": "1 of 1 rows .* no edited picture 'y'",
        "one": "few",
    }
    for name, words in said.items():
        with pytest.raises(DataError, match=words) as caught:
            open_pairs(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_path_with_brackets_works(tmp_path: Path, make_pairs: Callable[..., Path]) -> None:
    assert len(open_pairs(make_pairs(tmp_path / "pairs [v1]*", 5)).train) == 4
