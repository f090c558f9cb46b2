"""Write triples of the kinds of edit that are scarce: `python train/storybook/triples.py --out FILE`.

The rules ask for all kinds alike, but filters refuse most swaps of buildings and hardly any new colour of walls. These
triples ask more often for what is kept least, and some for two edits in one instruction. Pairs are drawn by
`python data_gen/pipeline.py triples.writer=file triples.file=FILE`.
"""

import argparse
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path

from ip2p.errors import ConfigError, run_program
from ip2p.ownership import write_new
from ip2p.storybook.edits import apply, possible_edits
from ip2p.storybook.language import caption, edited_caption, instruction, instruction_for_both
from ip2p.storybook.scene import sample_scene

OTHER = "other"
"""Kind of edits that have none of their own in a data set: here two edits at once."""
WEIGHTS = {
    "swap_building": 6.0, "add_sky": 3.0, "season": 2.0, "place": 2.0, "time": 1.5, "clouds": 1.0, "door": 1.0,
    "roof": 1.0, "add_animal": 1.5, "weather": 1.0, "style": 1.0, OTHER: 3.0,
}  # fmt: skip
"""Weights by which kinds are drawn; a scene that has no edit of the kind is left out."""


def scarce_triples(count: int, seed: int) -> Iterator[dict[str, str]]:
    """Yield triples in the layout of `triples.file`, no two of one caption; triple k depends on the seed and k alone.

    Args:
        count: number of triples.
        seed: seed of all random draws.
    """
    rng, seen = random.Random(seed), set[str]()
    while len(seen) < count:
        kind = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        scene = sample_scene(rng)
        edits, text = possible_edits(scene.attributes), caption(scene, rng)
        if text in seen:
            continue
        if kind == OTHER:
            first, second = rng.sample(edits, 2)
            if first.attribute == second.attribute or "swap_building" in (first.kind, second.kind):
                continue  # a swapped building alone is already hard enough to draw
            between = edited_caption(text, scene, first)
            edited = edited_caption(between, apply(scene, first), second)
            wish = instruction_for_both(first, second, scene, rng)
        else:
            of_kind = [edit for edit in edits if edit.kind == kind]
            if not of_kind:
                continue
            edit = rng.choice(of_kind)
            edited, wish = edited_caption(text, scene, edit), instruction(edit, scene, rng)
        if edited == text:
            continue
        seen.add(text)
        yield {"caption": text, "instruction": wish, "edited_caption": edited, "kind": kind}


def write(parsed: argparse.Namespace) -> None:
    """Write the file.

    Raises:
        ConfigError: no triples are asked for.
        DataError: another file is there.
    """
    if parsed.count < 1:
        raise ConfigError(f"count={parsed.count} is below 1", "Give 1 or more", arguments=["count"])
    lines = [json.dumps(triple) + "\n" for triple in scarce_triples(parsed.count, parsed.seed)]
    write_new(parsed.out, "".join(lines).encode())
    print(f"wrote {len(lines)} triples to {parsed.out}")


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="JSONL file to write")
    parser.add_argument("--count", type=int, default=3000, help="number of triples (default: 3000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of all random draws (default: 0)")
    parsed = parser.parse_args()
    return run_program(lambda: write(parsed))


if __name__ == "__main__":
    sys.exit(main())
