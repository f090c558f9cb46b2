"""Edits that a person looked at, and a way to draw more: `python bench/labelled_edits.py bench/eye/NAME [--seed 64]`.

A folder under `eye/` has pictures and `labels.json`: the scene, edit, texts and seed of each, and whether the requested
change is visible, whole and clear. So a label belongs to a picture, whatever editor is bundled by then. A new folder is
drawn without labels, with numbered sheets at full size beside it; `--accepted 0,3,7` then labels these 1 and all
others 0.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from ip2p import Editor
from ip2p.errors import ConfigError, DataError, run_program
from ip2p.models.bundled import DEFAULT_EDITOR
from ip2p.pictures.contact_sheet import contact_sheet
from ip2p.pictures.read import open_image
from ip2p.pictures.write import save_picture
from ip2p.shards import atomic_dir, atomic_write
from ip2p.storybook.edits import Case, edit_to, evaluation_cases
from ip2p.storybook.render import render
from ip2p.storybook.scene import Layout, Scene

EYE = Path(__file__).with_name("eye")
"""Folder of all folders of labelled edits."""
LABELS_FILE = "labels.json"
PAIRS_IN_A_ROW, PAIRS_ON_A_SHEET = 3, 12


class LabelledEdit(NamedTuple):
    """An edited picture and what a person says about it.

    Attributes:
        case: scene, edit and texts.
        edited: picture that an editor made.
        label: whether the requested change is visible, whole and clear; None before somebody has looked.
        number: number within its folder, as on the sheets.
    """

    case: Case
    edited: Image.Image
    label: bool | None
    number: int


def read_edits(folder: Path) -> list[LabelledEdit]:
    """Read the edits of a folder, labelled or not.

    Raises:
        DataError: the folder has no labels file.
    """
    path = folder / LABELS_FILE
    if not path.is_file():
        first = "Move its folder away, and draw" if folder.exists() else "Draw"  # what is there is never drawn over
        raise DataError(f"{path} is not there", f"{first} it: python bench/labelled_edits.py {folder}")
    return [
        LabelledEdit(_to_case(row), open_image(folder / row["file"]).convert("RGB"), row["label"], number)
        for number, row in enumerate(json.loads(path.read_text()))
    ]


def read_labelled(folders: Sequence[Path] = ()) -> list[LabelledEdit]:
    """Read the edits of some folders, or of all under `eye/`.

    Raises:
        DataError: an edit has no label.
    """
    found = []
    for folder in folders or sorted(path.parent for path in EYE.glob(f"*/{LABELS_FILE}")):
        edits = read_edits(folder)
        if missing := [each.number for each in edits if each.label is None]:
            raise DataError(f"{folder} has {len(missing)} edits without a label", "Look at them, and give --accepted")
        found += edits
    return found


def draw_folder(folder: Path, cases: Sequence[Case], editor: str) -> None:
    """Draw an edit of each case, with its number as the seed; write pictures and a file of empty labels, all or none.

    Raises:
        DataError: the folder is there.
    """
    if folder.exists():
        raise DataError(f"{folder} is there", "Give another folder, or move it away")
    edits = Editor.from_pretrained(editor).edit(
        [render(case.scene) for case in cases], [case.instruction for case in cases], seeds=range(len(cases))
    )
    rows = [_to_row(case, f"{number:02d}.webp", edits[number].seed) for number, case in enumerate(cases)]
    with atomic_dir(folder) as unfinished:
        for row, edit in zip(rows, edits, strict=True):
            save_picture(edit.image, unfinished / row["file"], edit.parameters)
        write_rows(unfinished, rows)


def read_numbers(text: str) -> list[int]:
    """Read numbers that are separated by commas.

    Raises:
        ConfigError: something is no number.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if wrong := [word for word in words if not word.isdecimal()]:
        raise ConfigError(f"--accepted has {wrong[0]!r}, which is no number", "Give numbers as on the sheets: 0,3,7")
    return [int(word) for word in words]


def label(folder: Path, accepted: Sequence[int]) -> None:
    """Label the edits of a folder: true for the accepted ones, false for all others.

    Raises:
        DataError: there is no edit of a number.
    """
    rows = json.loads((folder / LABELS_FILE).read_text())
    if unknown := set(accepted) - set(range(len(rows))):
        raise DataError(f"there is no edit {min(unknown)} in {folder}", f"Give numbers from 0 to {len(rows) - 1}")
    write_rows(folder, [row | {"label": number in accepted} for number, row in enumerate(rows)])


def write_rows(folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write the labels file, one row a line."""
    lines = ",\n".join(json.dumps(row) for row in rows)
    atomic_write(folder / LABELS_FILE, f"[\n{lines}\n]\n".encode())


def draw_sheets(edits: Sequence[LabelledEdit], texts: Sequence[str], folder: Path) -> None:
    """Draw sheets of the edits beside their scenes at full size, with a text below each."""
    for start in range(0, len(edits), PAIRS_ON_A_SHEET):
        shown = list(zip(edits, texts, strict=True))[start : start + PAIRS_ON_A_SHEET]
        rows = [shown[first : first + PAIRS_IN_A_ROW] for first in range(0, len(shown), PAIRS_IN_A_ROW)]
        sheet = contact_sheet(
            [[image for each, _ in row for image in (render(each.case.scene), each.edited)] for row in rows],
            captions=[[words for each, text in row for words in (f"{each.number}", text)] for row in rows],
        )
        path = folder / f"sheet-{start:03d}.png"
        save_picture(sheet, path, {"sheet": path.stem})
        print(f"wrote {path}")


def _to_case(row: dict[str, Any]) -> Case:
    scene = Scene(**row["scene"] | {"layout": Layout(**row["scene"]["layout"])})
    return Case(
        scene, edit_to(scene, row["attribute"], row["to"]), row["caption"], row["instruction"], row["edited_caption"]
    )


def _to_row(case: Case, file: str, seed: int) -> dict[str, Any]:
    return {
        "file": file, "label": None, "attribute": case.edit.attribute,
        "from": case.scene.attributes[case.edit.attribute], "to": case.edit.value, "seed": seed,
        "instruction": case.instruction, "caption": case.caption, "edited_caption": case.edited_caption,
        "scene": dataclasses.asdict(case.scene),
    }  # fmt: skip


def run(parsed: argparse.Namespace) -> None:
    """Draw a folder that is not there yet, label it if asked, and draw its sheets."""
    if not parsed.folder.exists():
        draw_folder(parsed.folder, evaluation_cases(parsed.count, parsed.seed), parsed.editor)
    if parsed.accepted is not None:
        label(parsed.folder, read_numbers(parsed.accepted))
    edits = read_edits(parsed.folder)
    said = {None: "", True: "; accepted", False: "; not accepted"}
    texts = [
        f"{each.case.instruction} ({each.case.edit.attribute}: {each.case.edit.value}){said[each.label]}"
        for each in edits
    ]
    draw_sheets(edits, texts, parsed.sheets)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of the edits; drawn if it is not there")
    parser.add_argument("--editor", default=DEFAULT_EDITOR, help="editor: bundled name or folder")
    parser.add_argument("--count", type=int, default=64, help="number of edits to draw (default: 64)")
    parser.add_argument("--seed", type=int, default=64, help="seed of the scenes to draw (default: 64)")
    parser.add_argument("--accepted", help="numbers of the edits that show what was asked, separated by commas")
    parser.add_argument("--sheets", type=Path, default=Path("runs/eye"), help="folder of the sheets")
    parsed = parser.parse_args()
    return run_program(lambda: run(parsed))


if __name__ == "__main__":
    sys.exit(main())
