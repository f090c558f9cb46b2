"""The layouts in which benchmarks of editing come, row by row.

edit_sessions.json  MagicBrush's test set: edits of a picture in turn, files in images/{number}/, captions of the whole
                    pictures in global_descriptions.json; those of what was edited, which have no before, are not read
mapping_file.json   PIE-Bench: both captions, run-length masks, pictures in annotation_images/; it has no targets
{name}_input.png    PaintBench, one problem each: {name}_answer.png, and its instruction in {name}.json or {name}.txt
"""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ip2p.errors import one_line
from ip2p.pairs.columns import NONE, Columns, Reading
from ip2p.pairs.rows import StoredPair, to_pair
from ip2p.pairs.stored import PICTURES, find_inside

CAPTIONS_FILE = "global_descriptions.json"
PIE_SIDE = 512
"""Side in pixels of the pictures of PIE-Bench, for which its masks are written."""
PIE_TASKS = (
    "random", "change object", "add object", "delete object", "change content", "change pose", "change color",
    "change material", "change background", "change style",
)  # fmt: skip
"""Tasks of PIE-Bench by their number."""


def read_sessions(root: Path, file: Path, reading: Reading) -> Iterator[StoredPair]:
    """Read MagicBrush's sessions: each turn is a row that edits the exact picture before it; its task is its turn."""
    name = file.relative_to(root)
    sessions = _load(file)
    captions = _load(file.parent / CAPTIONS_FILE) if (file.parent / CAPTIONS_FILE).is_file() else {}
    if not isinstance(sessions, dict):
        yield _unreadable(str(name), sessions)
        return
    for number, turns in sessions.items():
        texts = captions.get(number, {}) if isinstance(captions, dict) else {}
        find = find_inside(root, file.parent / "images" / number, file.parent / "images")
        for turn, row in enumerate(turns if isinstance(turns, list) else [], 1):
            place = f"{name}, {number}, turn {turn}"
            if not isinstance(row, dict):
                yield StoredPair(place, fault="it is no JSON object")
                continue
            sides = {"source": row.get("input"), "edited": row.get("output"), "mask": row.get("mask")}
            known = texts if isinstance(texts, dict) else {}
            values = sides | {
                "instruction": row.get("instruction"), "id": f"{number}-{turn}", "kind": f"turn {turn}",
                "original_prompt": known.get(sides["source"], ""), "edited_prompt": known.get(sides["edited"], ""),
            }  # fmt: skip
            yield to_pair(values, place, find, _without_columns(reading))


def read_pie_bench(root: Path, file: Path, reading: Reading) -> Iterator[StoredPair]:
    """Read PIE-Bench: captions lose the brackets around what changes, masks become pictures, rows have no target."""
    name, rows = file.relative_to(root), _load(file)
    if not isinstance(rows, dict):
        yield _unreadable(str(name), rows)
        return
    find = find_inside(root, file.parent / "annotation_images", file.parent)
    untargeted = _without_columns(reading, Columns(edited=NONE))
    for number, row in rows.items():
        if not isinstance(row, dict):
            yield StoredPair(f"{name}, {number}", fault="it is no JSON object")
            continue
        values = {
            "source": row.get("image_path"), "instruction": row.get("editing_instruction"), "id": number,
            "original_prompt": _unbracket(row.get("original_prompt")),
            "edited_prompt": _unbracket(row.get("editing_prompt")), "mask": _draw_runs(row.get("mask")),
            "kind": _name_task(row.get("editing_type_id")),
        }  # fmt: skip
        yield to_pair(values, f"{name}, {number}", find, untargeted)


def read_problem(root: Path, file: Path, reading: Reading) -> Iterator[StoredPair]:
    """Read one problem of PaintBench; its task is what its JSON says, or else the name of its folder."""
    stem = file.stem.removesuffix("_input")
    answers = (file.with_name(f"{stem}_answer{ending}") for ending in PICTURES)
    answer = next((path for path in answers if path.is_file()), None)
    text, said = file.with_name(f"{stem}.txt"), file.with_name(f"{stem}.json")
    about = _load(said) if said.is_file() else {}
    values: dict[str, Any] = {
        "source": str(file.relative_to(root)), "edited": str(answer.relative_to(root)) if answer else f"{stem}_answer",
        "instruction": text.read_text("utf-8", "replace").strip() if text.is_file() else "",
        "kind": file.parent.name if file.parent != root else "",
    }  # fmt: skip
    if isinstance(about, dict):
        values |= {
            "instruction": about.get("instruction") or values["instruction"],
            "kind": about.get("task") or values["kind"],
        }
    pair = to_pair(values, str(file.relative_to(root)), find_inside(root), _without_columns(reading))
    if isinstance(about, dict):
        yield pair
    else:
        yield StoredPair(**{**vars(pair), "fault": " and ".join(filter(None, (pair.fault, f"{said.name}: {about}")))})


def _load(file: Path) -> Any:
    """Read a JSON file; what is wrong with it, as a text, if it cannot be read."""
    try:
        return json.loads(file.read_text("utf-8-sig"))
    except (OSError, ValueError) as error:
        return f"not readable ({one_line(error)})"


def _unreadable(place: str, found: Any) -> StoredPair:
    return StoredPair(place, fault=found if isinstance(found, str) else "it is no JSON object")


def _without_columns(reading: Reading, columns: Columns | None = None) -> Reading:
    """The same reading for rows whose columns are known."""
    return reading.model_copy(update={"columns": columns or Columns()})


def _unbracket(text: Any) -> Any:
    return text.replace("[", "").replace("]", "") if isinstance(text, str) else text


def _name_task(number: Any) -> str:
    known = str(number).isdecimal() and int(number) < len(PIE_TASKS)
    return PIE_TASKS[int(number)] if known else str(number or "")


def _draw_runs(runs: Any) -> bytes | None:
    """Draw a run-length mask, pairs of start and length in reading order, as a PNG; None if it is none.

    The outermost pixels are edited, too: PIE-Bench counts them so, for its annotations are unreliable there.
    """
    whole = isinstance(runs, list) and all(isinstance(each, int) and each >= 0 for each in runs)
    if not whole or not runs or len(runs) % 2:
        return None
    mask = np.zeros(PIE_SIDE * PIE_SIDE, np.uint8)
    for start, length in zip(runs[::2], runs[1::2], strict=True):
        mask[start : start + length] = 255
    square = mask.reshape(PIE_SIDE, PIE_SIDE)
    square[[0, -1]] = square[:, [0, -1]] = 255
    stream = io.BytesIO()
    Image.fromarray(square).save(stream, "PNG")
    return stream.getvalue()
