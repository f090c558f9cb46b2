"""Draw a picture, edit it in eight ways, and put them around it: `make demo`.

On the command line the first two pictures are

    ip2p generate "a red barn by a lake on a summer day" --seed 2 -o scene.png
    ip2p edit scene.png "make it winter" --seed 2 -o winter.png
"""

import argparse
from pathlib import Path

from ip2p import Editor
from ip2p.editing.generation import generate
from ip2p.models.backbone import load_backbone
from ip2p.models.bundled import DEFAULT_BASE
from ip2p.pictures.contact_sheet import contact_sheet
from ip2p.pictures.parameters import slug
from ip2p.pictures.write import save_picture

CAPTION = "a red barn by a lake on a summer day"
INSTRUCTIONS = [
    "make it winter", "make it night", "make it a watercolor",
    "turn the barn into a castle", "move it to the beach",
    "make the walls blue", "add a cow", "add a rainbow",
]  # fmt: skip
"""Edits in the order of reading, with the scene in the middle of three rows of three."""
COLUMNS = 3


def main() -> None:
    """Write scene.png, one picture for each instruction, and edits.webp with all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=2, help="seed of the noise")
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="folder to write to")
    parsed = parser.parse_args()

    print(f'drawing "{CAPTION}"', flush=True)
    (scene,) = generate(load_backbone(DEFAULT_BASE, want="base"), [CAPTION], seeds=[parsed.seed])
    save_picture(scene, parsed.out / "scene.png", {"caption": CAPTION, "seed": parsed.seed})

    print(f"editing it, in a minute or so: {', '.join(INSTRUCTIONS)}", flush=True)
    edits = Editor.from_pretrained().edit(scene, INSTRUCTIONS, seeds=parsed.seed)
    for instruction, edit in zip(INSTRUCTIONS, edits, strict=True):
        save_picture(edit.image, parsed.out / f"{slug(instruction)}.png", edit.parameters)

    shown = [(edit.image, instruction) for instruction, edit in zip(INSTRUCTIONS, edits, strict=True)]
    shown.insert(len(shown) // 2, (scene, CAPTION))
    rows = [shown[start : start + COLUMNS] for start in range(0, len(shown), COLUMNS)]
    sheet = contact_sheet(
        [[image for image, _ in row] for row in rows], captions=[[text for _, text in row] for row in rows]
    )
    save_picture(sheet, parsed.out / "edits.webp", {"caption": CAPTION, "seed": parsed.seed})
    print(f"wrote {parsed.out / 'edits.webp'}")


if __name__ == "__main__":
    main()
