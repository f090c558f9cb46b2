"""How often the judge agrees with the eye: `python bench/judge.py [--sheet FILE]`.

The editor of 128 px edits 64 scenes of the world of 256 px, which it was not made for; much of what it draws is mush.
Somebody looked at every edit and wrote down whether what was asked for is there, drawn whole and clear
(`judge_labels.json`). The judge is asked the same.
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

LABELS = Path(__file__).with_name("judge_labels.json")
COUNT = 64
KNOWN = {
    "season": ("spring", "summer", "autumn", "winter"), "time": ("day", "sunset", "night"),
    "weather": ("clear", "rain", "fog"), "style": ("watercolor", "sketch", "poster"),
    "place": ("meadow", "lake", "mountains", "beach"),
    "building": ("barn", "castle", "cottage", "windmill", "lighthouse"),
    "color": ("red", "blue", "yellow", "white", "green"), "animal": ("none", "sheep", "cow", "fox", "rabbit"),
    "sky": ("none", "balloon", "rainbow", "bird"),
}  # fmt: skip
"""What the editor of 128 px has learned to draw."""


def cases() -> list[Case]:
    """An edit for each of 64 scenes; attributes take turns."""
    found = []
    for number in range(COUNT):
        rng = random.Random(derive_seed(0, "judge-bench", str(number)))
        attribute = tuple(KNOWN)[number % len(KNOWN)]
        scene = sample_scene(rng, held_out=True)
        value = rng.choice([each for each in KNOWN[attribute] if each != scene.attributes[attribute]])
        edit, text = edit_to(scene, attribute, value), caption(scene, rng)
        asked = instruction(edit, scene, rng, plain=True)
        found.append(Case(scene, edit, text, asked, edited_caption(text, scene, edit)))
    return found


def draw(chosen: list[Case], editor: str) -> list[Image.Image]:
    """The edits, by seeds of their numbers."""
    edits = Editor.from_pretrained(editor).edit(
        [render(case.scene) for case in chosen],
        [case.instruction for case in chosen],
        seeds=list(range(COUNT)),
        batch=8,
    )
    return [edit.image for edit in edits]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--editor", default=DEFAULT_EDITOR, help="editor: bundled name or folder")
    parser.add_argument("--judge", default="storybook-judge", help="judge: bundled name or folder")
    parser.add_argument("--sheet", type=Path, help="write the edits with what the judge says of them")
    parsed = parser.parse_args()
    chosen = cases()
    pictures = draw(chosen, parsed.editor)
    said = [outcome.success for outcome in Judge.from_pretrained(parsed.judge).measure(to_tensor(pictures), chosen)]
    labels = json.loads(LABELS.read_text())
    agreed = [label == each for label, each in zip(labels, said, strict=True)]
    share = 100 * sum(agreed) / COUNT
    print(f"agreement {share:.0f} % of {COUNT} edits; the eye accepts {sum(labels)}, the judge {sum(said)}")
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
