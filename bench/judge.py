"""Measure how often the judge agrees with a person: `python bench/judge.py [--sheet FILE]`.

The editor for 128 px edits 64 scenes of 256 px, for which it was not trained, so many of its pictures are unclear. A
person labeled each edit: whether the requested change is visible, whole and clear (`judge_labels.json`). The judge
decides the same.
"""

import argparse
import json
import random
from pathlib import Path

from PIL import Image

from ip2p import Editor
from ip2p.models.bundled import DEFAULT_EDITOR
from ip2p.pictures.contact_sheet import contact_sheet
from ip2p.pictures.tensors import to_tensor
from ip2p.pictures.write import save_picture
from ip2p.seeding import derive_seed
from ip2p.storybook.edits import Case, edit_to
from ip2p.storybook.judge import Judge
from ip2p.storybook.language import caption, edited_caption, instruction
from ip2p.storybook.render import render
from ip2p.storybook.scene import sample_scene

LABELS_FILE = Path(__file__).with_name("judge_labels.json")
SCENE_COUNT = 64
KNOWN_VALUES = {
    "season": ("spring", "summer", "autumn", "winter"), "time": ("day", "sunset", "night"),
    "weather": ("clear", "rain", "fog"), "style": ("watercolor", "sketch", "poster"),
    "place": ("meadow", "lake", "mountains", "beach"),
    "building": ("barn", "castle", "cottage", "windmill", "lighthouse"),
    "color": ("red", "blue", "yellow", "white", "green"), "animal": ("none", "sheep", "cow", "fox", "rabbit"),
    "sky": ("none", "balloon", "rainbow", "bird"),
}  # fmt: skip
"""Values that the editor for 128 px was trained on."""


def make_cases() -> list[Case]:
    """Make one edit for each of 64 scenes, with attributes in rotation."""
    found = []
    for number in range(SCENE_COUNT):
        rng = random.Random(derive_seed(0, "judge-bench", str(number)))
        attribute = tuple(KNOWN_VALUES)[number % len(KNOWN_VALUES)]
        scene = sample_scene(rng, held_out=True)
        value = rng.choice([each for each in KNOWN_VALUES[attribute] if each != scene.attributes[attribute]])
        edit, text = edit_to(scene, attribute, value), caption(scene, rng)
        asked = instruction(edit, scene, rng, plain=True)
        found.append(Case(scene, edit, text, asked, edited_caption(text, scene, edit)))
    return found


def draw_edits(chosen: list[Case], editor: str) -> list[Image.Image]:
    """Draw the edits, with their numbers as seeds."""
    edits = Editor.from_pretrained(editor).edit(
        [render(case.scene) for case in chosen],
        [case.instruction for case in chosen],
        seeds=list(range(SCENE_COUNT)),
        batch=8,
    )
    return [edit.image for edit in edits]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--editor", default=DEFAULT_EDITOR, help="editor: bundled name or folder")
    parser.add_argument("--judge", default="storybook-judge", help="judge: bundled name or folder")
    parser.add_argument("--sheet", type=Path, help="write a sheet of the edits with the judge's decisions")
    parsed = parser.parse_args()
    chosen = make_cases()
    pictures = draw_edits(chosen, parsed.editor)
    said = [outcome.success for outcome in Judge.from_pretrained(parsed.judge).measure(to_tensor(pictures), chosen)]
    labels = json.loads(LABELS_FILE.read_text())
    agreed = [label == each for label, each in zip(labels, said, strict=True)]
    share = 100 * sum(agreed) / SCENE_COUNT
    print(f"agreement {share:.0f} % of {SCENE_COUNT} edits; the eye accepts {sum(labels)}, the judge {sum(said)}")
    if parsed.sheet:
        texts = [
            f"{number}: {case.instruction} ({case.edit.attribute}: {case.edit.value}); eye {label:d}, judge {each:d}"
            for number, (case, label, each) in enumerate(zip(chosen, labels, said, strict=True))
        ]
        shown = [
            image for case, picture in zip(chosen, pictures, strict=True) for image in (render(case.scene), picture)
        ]
        rows = [shown[start : start + 8] for start in range(0, len(shown), 8)]
        save_picture(
            contact_sheet(rows, ["  |  ".join(texts[4 * row : 4 * row + 4]) for row in range(len(rows))]),
            parsed.sheet,
            {},
        )


if __name__ == "__main__":
    main()
