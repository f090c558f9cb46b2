"""Draw a picture, edit it in four ways, and put them side by side: `make demo`.

On the command line the first two pictures are

    ip2p generate "a red barn by a lake in summer" --seed 5 -o before.png
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

CAPTION = "a red barn by a lake in summer"
INSTRUCTIONS = ["make it winter", "make it night", "turn the barn into a castle", "make it a watercolor"]


def main() -> None:
    """Write before.png, one picture for each instruction, and winter.png with all of them."""
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

    sheet = contact_sheet([[before, *(edit.image for edit in edits)]], header=[CAPTION, *INSTRUCTIONS])
    save_picture(sheet, parsed.out / "winter.png", {"caption": CAPTION, "seed": parsed.seed})
    print(f"wrote {parsed.out / 'winter.png'}")


if __name__ == "__main__":
    main()
