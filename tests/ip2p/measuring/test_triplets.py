"""Triplets are read from the layouts of benchmarks, lazily, and what they lack is told by name."""

import gc
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, Features, Value
from datasets import Image as Picture
from pair_files import LAYOUTS, ROWS, encode
from PIL import Image

from ip2p.errors import DataError, ImageError
from ip2p.measuring.triplets import Triplet, read_triplets, to_mask
from ip2p.pairs.columns import Columns, Reading
from ip2p.pairs.read import read_pairs
from ip2p.pairs.rows import StoredPair

SIZE = (32, 32)
RED, BLUE = Image.new("RGB", SIZE, "red"), Image.new("RGB", SIZE, "blue")


def corner() -> Image.Image:
    """Make a mask of the upper left quarter."""
    mask = Image.new("L", SIZE)
    mask.paste(255, (0, 0, 16, 16))
    return mask


def save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def only(path: Path) -> Triplet:
    (found,) = read_triplets(path)
    return found


def parquet(path: Path, rows: Sequence[Mapping[str, object]], pictures: tuple[str, ...]) -> Path:
    features = Features({name: Picture() if name in pictures else Value("string") for name in rows[0]})
    Dataset.from_list(list(rows), features=features).to_parquet(path / "test-0.parquet")
    return path


def as_bytes(image: Image.Image) -> dict[str, bytes]:
    return {"bytes": encode(image)}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_of_pairs_is_one_of_triplets(layout: str, tmp_path: Path) -> None:
    write, settings = LAYOUTS[layout]
    columns = dict(each.removeprefix("columns.").split("=") for each in settings)
    found = list(read_triplets(write(tmp_path), Reading(columns=Columns(**columns))))
    assert len(found) == len(ROWS) and not any(each.fault for each in found)
    pictures = found[0].load()
    assert pictures.source.size == SIZE and pictures.target is not None and pictures.target != pictures.source
    assert pictures.mask is None and pictures.lacks == ("no mask",)
    assert len({each.place for each in found}) == len(found)


def test_paintbench_is_two_files_and_an_instruction(tmp_path: Path) -> None:
    for task in ("recolor", "move"):
        for number in range(2):
            save(RED, tmp_path / task / f"00{number}_input.png")
            save(BLUE, tmp_path / task / f"00{number}_answer.png")
            about = {"instruction": f"{task} it {number}", "task": task, "seed": 3}
            (tmp_path / task / f"00{number}.json").write_text(json.dumps(about))
    found = list(read_triplets(tmp_path))
    assert [(each.task, each.instruction) for each in found] == [
        ("move", "move it 0"), ("move", "move it 1"), ("recolor", "recolor it 0"), ("recolor", "recolor it 1"),
    ]  # fmt: skip
    pictures = found[0].load()
    assert pictures.source == RED and pictures.target == BLUE


def test_problems_of_paintbench_are_told_by_row(tmp_path: Path) -> None:
    for name in "abcd":
        save(RED, tmp_path / f"task/{name}_input.png")
        save(BLUE, tmp_path / f"task/{name}_answer.png")
    (tmp_path / "task/a.txt").write_text("make it blue\n")
    (tmp_path / "task/b.json").write_text("{")
    (tmp_path / "task/c.json").write_text(json.dumps({"instruction": "x"}))
    (tmp_path / "task/c_answer.png").unlink()
    a, b, c, d = read_triplets(tmp_path)
    assert (a.instruction, a.task, a.fault) == ("make it blue", "task", "")
    assert "b.json: not readable" in b.fault and c.fault == "" and c.load().lacks == ("no target", "no mask")
    assert d.fault == "no instruction" and d.place == "task/d_input.png"
    with pytest.raises(DataError, match="task/d_input.png: no instruction"):
        d.load()


def test_paintbench_on_the_hub_is_parquet(tmp_path: Path) -> None:
    row = {"input_image": as_bytes(RED), "answer_image": as_bytes(BLUE), "instruction": "make it blue",
           "task": "recolor", "metadata": "{}"}  # fmt: skip
    found = only(parquet(tmp_path, [row], ("input_image", "answer_image")))
    assert found.task == "recolor" and found.load().target == BLUE and found.split == "test"


def magicbrush(folder: Path) -> Path:
    hole = RED.convert("RGBA")
    hole.putalpha(corner().point(lambda value: 255 - value))
    for name, image in (("input", RED), ("output1", BLUE), ("output2", RED), ("mask1", hole), ("mask2", hole)):
        save(image, folder / f"images/77/77-{name}.png")
    turns = [
        {"input": "77-input.png", "mask": "77-mask1.png", "output": "77-output1.png", "instruction": "make it blue"},
        {"input": "77-output1.png", "mask": "77-mask2.png", "output": "77-output2.png", "instruction": "make it red"},
        {"input": "77-output9.png", "mask": "", "output": "77-output2.png", "instruction": "make it odd"},
        "nothing",
    ]
    (folder / "edit_sessions.json").write_text(json.dumps({"77": turns}))
    captions = {"77-input.png": "a red wall", "77-output1.png": "a blue wall", "77-output2.png": "a blue wall"}
    (folder / "global_descriptions.json").write_text(json.dumps({"77": captions}))
    return folder


def test_magicbrush_comes_in_sessions(tmp_path: Path) -> None:
    first, second, third, fourth = read_triplets(magicbrush(tmp_path))
    assert (first.instruction, first.caption, first.edited_caption, first.task, first.lacks) == (
        "make it blue", "a red wall", "a blue wall", "turn 1", (),
    )  # fmt: skip
    pictures = first.load()
    assert (pictures.source, pictures.target, pictures.lacks) == (RED, BLUE, ())
    assert pictures.mask == corner()
    assert second.load().source == BLUE and second.lacks == ("equal captions",)
    assert third.fault == "no source picture '77-output9.png'" and third.place == "edit_sessions.json, 77, turn 3"
    assert fourth.fault == "it is no JSON object"


def test_magicbrush_on_the_hub_is_parquet(tmp_path: Path) -> None:
    row = {"img_id": "77", "turn_index": "1", "source_img": as_bytes(RED), "mask_img": as_bytes(corner()),
           "instruction": "make it blue", "target_img": as_bytes(BLUE)}  # fmt: skip
    found = only(parquet(tmp_path, [row], ("source_img", "mask_img", "target_img")))
    pictures = found.load()
    assert (pictures.source, pictures.target, pictures.mask, pictures.lacks) == (RED, BLUE, corner(), ())
    assert found.lacks == ("no captions",)


def test_emu_edit_has_captions_and_no_targets(tmp_path: Path) -> None:
    row = {"instruction": "make it blue", "image": as_bytes(RED), "task": "color", "split": "test", "idx": "4",
           "input_caption": "a red wall", "output_caption": "a blue wall"}  # fmt: skip
    path = parquet(tmp_path, [row], ("image",))
    found = only(path)
    assert (found.task, found.caption, found.edited_caption, found.fault) == ("color", "a red wall", "a blue wall", "")
    pictures = found.load()
    assert pictures.source == RED and pictures.target is None and pictures.lacks == ("no target", "no mask")
    assert "no column of edited pictures" in next(read_pairs(path)).fault  # nothing to train on


def test_pie_bench_has_masks_of_runs(tmp_path: Path) -> None:
    big = RED.resize((512, 512))
    save(big, tmp_path / "annotation_images/1_change_object_80/111.jpg")
    row = {
        "image_path": "1_change_object_80/111.jpg", "original_prompt": "a [red] wall",
        "editing_prompt": "a [blue] wall", "editing_instruction": "make the wall blue", "editing_type_id": "6",
        "mask": [512 * 100 + 7, 3, 512 * 200, 512],
    }  # fmt: skip
    broken = row | {"mask": [3], "editing_type_id": "", "editing_prompt": "a red wall"}
    (tmp_path / "mapping_file.json").write_text(json.dumps({"111": row, "112": broken}))
    found, other = read_triplets(tmp_path)
    assert (found.caption, found.edited_caption, found.task, found.fault) == (
        "a red wall", "a blue wall", "change color", "",
    )  # fmt: skip
    pictures = found.load()
    assert pictures.source.size == (512, 512) and pictures.lacks == ("no target",) and pictures.mask
    inside = np.asarray(pictures.mask)[1:-1, 1:-1] > 0
    assert inside.sum() == 3 + 510 and inside[99, 6:9].all() and inside[199].all()
    assert np.asarray(pictures.mask)[0].all()
    assert other.load().lacks == ("no target", "no mask") and other.lacks == ("equal captions",)


def test_what_a_triplet_lacks_is_counted_and_not_an_error(tmp_path: Path) -> None:
    small, black = RED.resize((16, 16)), Image.new("L", SIZE)
    masked = (BLUE, corner()), (small, corner()), (BLUE, black), (BLUE, small.convert("L")), (BLUE, None)
    rows: list[dict[str, object]] = [
        {"source": as_bytes(RED), "target": as_bytes(target), "mask": as_bytes(mask) if mask else None,
         "instruction": "make it blue"}
        for target, mask in masked
    ]  # fmt: skip
    rows.append(rows[0] | {"target": {"bytes": encode(BLUE)[:40]}})
    rows.append(rows[0] | {"mask": {"bytes": b"no picture"}})
    found = list(read_triplets(parquet(tmp_path, rows, ("source", "target", "mask"))))
    lacks = [each.load().lacks for number, each in enumerate(found) if number != 5]
    assert lacks == [
        (), ("target of another size",), ("mask without an edit",), ("mask of another size",), ("no mask",),
        ("mask that cannot be read",),
    ]  # fmt: skip
    with pytest.raises(ImageError, match="test-0.parquet, row 5, the target"):
        found[5].load()


def test_a_row_without_its_target_is_measured_and_never_trained_on(tmp_path: Path) -> None:
    save(RED, tmp_path / "red.png")
    save(BLUE, tmp_path / "blue.png")
    row = {"source": "red.png", "instruction": "make it blue"}
    targets: list[dict[str, object]] = [{"target": each} for each in (None, "gone.png", "blue.png")]
    others: list[dict[str, object]] = [{}, {"target": None, "instruction": None}, {"target": 5}]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row | each) for each in targets + others))
    found = list(read_triplets(tmp_path))
    assert not any(each.fault for each in found[:4])
    assert [each.fault for each in found[4:]] == ["no instruction", "the edited picture is a number, not a picture"]
    assert [each.load().target for each in found[:4]] == [None, None, BLUE, None]
    assert found[0].load().lacks == ("no target", "no mask")
    bad = [each.fault for each in read_pairs(tmp_path)]
    assert bad[:3] == ["no edited picture", "no edited picture 'gone.png'", ""] and "no column of edited" in bad[3]


def test_pictures_are_decoded_when_they_are_loaded(tmp_path: Path) -> None:
    for number in range(3):
        save(RED, tmp_path / f"{number}_input.png")
        save(BLUE, tmp_path / f"{number}_answer.png")
        (tmp_path / f"{number}.txt").write_text("make it blue")
    found = read_triplets(tmp_path)
    first = next(found)
    (tmp_path / "0_input.png").write_bytes(b"nothing")
    assert first.fault == ""
    with pytest.raises(ImageError):
        first.load()
    assert [each.load().source for each in found] == [RED, RED]


def test_bytes_of_tables_are_read_when_they_are_loaded(tmp_path: Path) -> None:
    """Of parquet files in row groups, of an arrow folder; whatever the order."""
    rows: list[dict[str, object]] = [
        {"source": as_bytes(red := RED.resize((16 + k, 16))), "target": as_bytes(red), "instruction": "x"}
        for k in range(5)
    ]  # fmt: skip
    features = Features({"source": Picture(), "target": Picture(), "instruction": Value("string")})
    table = Dataset.from_list(rows, features=features)
    table.to_parquet(tmp_path / "files" / "test-0.parquet", batch_size=2)
    table.save_to_disk(tmp_path / "saved")
    for folder in ("files", "saved"):
        found = list(read_triplets(tmp_path / folder))
        gc.collect()
        pairs = [each for each in gc.get_objects() if type(each) is StoredPair]
        assert not any(each.source and each.source["bytes"] for each in pairs)
        assert [found[k].load().source.size for k in (3, 0, 4, 1, 2)] == [(16 + k, 16) for k in (3, 0, 4, 1, 2)]
        assert len({each.hash_pictures() for each in found}) == 5


def test_masks_of_any_mode() -> None:
    assert to_mask(corner()) == to_mask(corner().convert("RGB")) == to_mask(corner().convert("1")) == corner()
    opaque = corner().convert("RGBA")
    assert to_mask(opaque) == corner()


def test_a_mask_of_truth_values_is_white_where_it_is_1() -> None:
    stored = corner().point(lambda value: value // 255)
    assert to_mask(stored) == to_mask(stored.convert("RGB")) == corner()
    assert to_mask(Image.new("L", SIZE)).getbbox() is None
