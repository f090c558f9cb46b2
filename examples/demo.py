"""Draw a picture, edit it in eight ways, and put all of them on one sheet: `make demo`.

On the command line the first two pictures are

    ip2p generate "a white cottage with a red roof by a lake in summer, in daylight" --seed 5 -o before.png
    ip2p edit before.png "make it winter" --seed 5 -o after.png
"""

import argparse
import sys
from pathlib import Path

from ip2p import Editor
from ip2p.cli.outputs import require_free
from ip2p.editing.generation import generate
from ip2p.errors import run_program
from ip2p.models.backbone import load_backbone
from ip2p.models.bundled import DEFAULT_BASE
from ip2p.pictures.contact_sheet import contact_sheet
from ip2p.pictures.write import save_picture

CAPTION = "a white cottage with a red roof by a lake in summer, in daylight"
INSTRUCTIONS = [
    "make it winter", "make it autumn", "make it night", "make it a watercolor", "paint the walls blue",
    "add a rainbow", "add a sheep", "move it to the beach",
]  # fmt: skip
COLUMNS = 3


def run(out: Path, seed: int) -> None:
    """Write before.png, one picture for each instruction, and edits.png with all of them."""
    whole = {"caption": CAPTION, "seed": seed}
    first, sheet = out / "before.png", out / "edits.png"
    paths = {text: out / f"{text.replace(' ', '-')}.png" for text in INSTRUCTIONS}
    targets = {first: whole, sheet: whole} | {paths[text]: {"instruction": text, "seed": seed} for text in paths}
    for path, result in targets.items():
        require_free(path, result, fix="Give another folder as --out")

    print(f'drawing "{CAPTION}"')
    (before,) = generate(load_backbone(DEFAULT_BASE, want="base"), [CAPTION], seeds=[seed])
    save_picture(before, first, whole)

    print(f"editing it: {', '.join(INSTRUCTIONS)}")
    edits = Editor.from_pretrained().edit(before, INSTRUCTIONS, seeds=seed)
    for path, edit in zip(paths.values(), edits, strict=True):
        save_picture(edit.image, path, edit.parameters)

    pictures, texts = [before, *(edit.image for edit in edits)], [CAPTION, *INSTRUCTIONS]
    starts = range(0, len(pictures), COLUMNS)
    drawn = contact_sheet(
        [pictures[start : start + COLUMNS] for start in starts],
        captions=[texts[start : start + COLUMNS] for start in starts],
    )
    save_picture(drawn, sheet, whole)
    print(f"wrote {sheet}")


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=5, help="seed of the noise")
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="folder to write to")
    parsed = parser.parse_args()
    return run_program(lambda: run(parsed.out, parsed.seed))


if __name__ == "__main__":
    sys.exit(main())
