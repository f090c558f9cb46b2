"""Draw a picture, edit it in eight ways, and put all of them on one sheet: `make demo`.

On the command line the first two pictures are

    ip2p generate "a white cottage with a red roof by a lake in summer, in daylight" --seed 5 -o before.png
    ip2p edit before.png "make it winter" --seed 5 -o after.png
"""

import argparse
from pathlib import Path

from ip2p import Editor
from ip2p.editing.generation import generate
from ip2p.models.backbone import load_backbone
from ip2p.models.bundled import DEFAULT_BASE
from ip2p.pictures.contact_sheet import contact_sheet
from ip2p.pictures.write import save_picture

CAPTION = "a white cottage with a red roof by a lake in summer, in daylight"
INSTRUCTIONS = [
    "make it winter", "make it night", "make it a watercolor", "turn the cottage into a castle", "paint the walls blue",
    "add a rainbow", "add a fox", "move it to the beach",
]  # fmt: skip
COLUMNS = 3


def main() -> None:
    """Write before.png, one picture for each instruction, and edits.png with all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=5, help="seed of the noise")
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="folder to write to")
    parsed = parser.parse_args()

    print(f'drawing "{CAPTION}"')
    (before,) = generate(load_backbone(DEFAULT_BASE, want="base"), [CAPTION], seeds=[parsed.seed])
    save_picture(before, parsed.out / "before.png", {"caption": CAPTION, "seed": parsed.seed})

    print(f"editing it: {', '.join(INSTRUCTIONS)}")
    edits = Editor.from_pretrained().edit(before, INSTRUCTIONS, seeds=parsed.seed)
    for instruction, edit in zip(INSTRUCTIONS, edits, strict=True):
        save_picture(edit.image, parsed.out / f"{instruction.replace(' ', '-')}.png", edit.parameters)

    pictures, texts = [before, *(edit.image for edit in edits)], [CAPTION, *INSTRUCTIONS]
    starts = range(0, len(pictures), COLUMNS)
    sheet = contact_sheet(
        [pictures[start : start + COLUMNS] for start in starts],
        captions=[texts[start : start + COLUMNS] for start in starts],
    )
    save_picture(sheet, parsed.out / "edits.png", {"caption": CAPTION, "seed": parsed.seed})
    print(f"wrote {parsed.out / 'edits.png'}")


if __name__ == "__main__":
    main()
