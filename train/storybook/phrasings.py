"""Further instructions for the pairs of storybook: `python train/storybook/phrasings.py PACKED --out FOLDER`.

A person may ask for an edit in many ways, and a pair has one instruction. This writes data sets phrasing-0, phrasing-1
and so on: the first with the instructions of the pairs, the others with further ones of the storybook language. In
each, every pair is there the other way round, too, where an instruction undoes its edit. All have the same pictures in
the same order, so that training keeps the latents once: "dataset=[FOLDER/phrasing-0,FOLDER/phrasing-1]". To
candidates=one, a further phrasing is a triple of its own.
"""

import argparse
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from datasets import Dataset, Features, Image, Value

from ip2p.errors import ConfigError, DataError, run_program
from ip2p.manifest import verify_dataset
from ip2p.seeding import derive_seed
from ip2p.shards import atomic_dir
from ip2p.storybook.edits import edits_between_captions, scene_of
from ip2p.storybook.language import instruction, instruction_for_both, parse
from ip2p.storybook.scene import RESERVED, Edit
from ip2p.train.masks import MASK_COLUMN

FEATURES = Features(
    {"original_prompt": Value("string"), "original_image": Image(), "edit_prompt": Value("string"),
     "edited_prompt": Value("string"), "edited_image": Image()}
)  # fmt: skip
OPPOSITE = {
    "original_prompt": "edited_prompt", "edited_prompt": "original_prompt",
    "original_image": "edited_image", "edited_image": "original_image",
}  # fmt: skip
SPLITS = ("train", "test")
MOST_EDITS = 2
"""Edits that one instruction of the storybook language asks for, at most."""
ENDING = "-00000-of-00001.parquet"


class Phrased(NamedTuple):
    """A pair with several phrasings of its instruction.

    Attributes:
        row: captions and pictures, as stored.
        instructions: as many as are asked for.
    """

    row: Mapping[str, Any]
    instructions: list[str]


def phrase(row: Mapping[str, Any], count: int, seed: int) -> Iterator[Phrased]:
    """Yield a pair, and the same pair the other way round if the storybook language can ask for that.

    Args:
        row: row of a packed data set, with its pictures as stored.
        count: number of instructions of each.
        seed: seed of the run; a row's phrasings depend on it and on the row's id.
    """
    rng = random.Random(derive_seed(seed, "phrasings", str(row["id"])))
    before, after = row["original_prompt"], row["edited_prompt"]
    edits, undo = edits_between_captions(before, after), edits_between_captions(after, before)
    more = [_write(before, edits, rng) if _can_be_asked_for(edits) else row["edit_prompt"] for _ in range(count - 1)]
    names = [*FEATURES, MASK_COLUMN] if row.get(MASK_COLUMN) else [*FEATURES]
    yield Phrased({name: row[name] for name in names}, [row["edit_prompt"], *more])
    if _can_be_asked_for(undo) and RESERVED.no_triple not in {each.kind for each in undo}:
        back = {name: row[OPPOSITE.get(name, name)] for name in names}
        yield Phrased(back, [_write(after, undo, rng) for _ in range(count)])


def _can_be_asked_for(edits: Sequence[Edit]) -> bool:
    return 0 < len(edits) <= MOST_EDITS


def _write(caption: str, edits: Sequence[Edit], rng: random.Random) -> str:
    scene = scene_of(parse(caption), rng)
    if len(edits) == 1:
        return instruction(edits[0], scene, rng)
    first, second = edits
    return instruction_for_both(first, second, scene, rng)


def read_packed(folder: Path, split: str) -> list[dict[str, Any]]:
    """Read the rows of a packed data set that are no inverses of others, with their pictures as stored.

    Raises:
        DataError: it has no pairs to train on, or it is no packed data set with captions.
    """
    files = sorted(map(str, folder.glob(f"data/{split}-*.parquet")))
    if not files and split == "test":
        return []
    if not files:
        raise DataError(
            f"{folder} has no data/{split}-*.parquet", "Give the folder packed/ of a build by `make dataset`"
        )
    table = Dataset.from_parquet(files)
    if missing := sorted({"id", *FEATURES} - set(table.column_names)):
        raise DataError(
            f"{folder} has no column {', '.join(missing)}", "Give the folder packed/ of a build by `make dataset`"
        )
    for name in {"original_image", "edited_image", MASK_COLUMN} & set(table.column_names):
        table = table.cast_column(name, Image(decode=False))
    return [row for row in table if not row.get("inverse_of")]


def write(folder: Path, splits: Mapping[str, list[Phrased]], count: int) -> None:
    """Write a data set for each phrasing.

    Args:
        folder: folder to write; replaced if this program wrote it.
        splits: pairs of each split.
        count: number of phrasings.
    """
    with atomic_dir(folder) as work:
        for number in range(count):
            for split, pairs in splits.items():
                (work / f"phrasing-{number}").mkdir(exist_ok=True)
                masked = any(MASK_COLUMN in each.row for each in pairs)  # null in the rows without a mask
                features = Features({**FEATURES, MASK_COLUMN: Image()}) if masked else FEATURES
                rows = [
                    {name: each.row.get(name) for name in features} | {"edit_prompt": each.instructions[number]}
                    for each in pairs
                ]
                table = Dataset.from_list(rows, features=features)
                table.to_parquet(str(work / f"phrasing-{number}" / f"{split}{ENDING}"))


def require_ours(folder: Path, packed: Sequence[Path]) -> None:
    """Check that a folder may be written.

    Args:
        folder: folder to write.
        packed: folders of data sets, which training and packing want as they are.

    Raises:
        ConfigError: it is a file, has other files than those of this program, or lies in a packed data set.
    """
    if any(folder.resolve().is_relative_to(each.resolve()) for each in packed):
        raise ConfigError(f"{folder} lies in a packed data set, which takes no other files", "Give another --out")
    ours = {f"{split}{ENDING}" for split in SPLITS}
    if folder.exists() and not (folder.is_dir() and all(_is_ours(each, ours) for each in folder.iterdir())):
        raise ConfigError(f"{folder} has files that this program did not write", "Give another folder as --out")


def _is_ours(folder: Path, files: set[str]) -> bool:
    return folder.name.startswith("phrasing-") and folder.is_dir() and {file.name for file in folder.iterdir()} <= files


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("packed", nargs="+", type=Path, help="folders of packed data sets of storybook")
    parser.add_argument("--out", type=Path, required=True, help="folder of the new data sets")
    parser.add_argument(
        "--count", type=int, choices=range(1, 31), metavar="N", default=3, help="phrasings of each edit (default: 3)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the phrasings")
    parsed = parser.parse_args()

    def run() -> None:
        require_ours(parsed.out, parsed.packed)
        for folder in parsed.packed:
            verify_dataset(folder)
        splits = {
            split: [
                each
                for folder in parsed.packed
                for row in read_packed(folder, split)
                for each in phrase(row, parsed.count, parsed.seed)
            ]
            for split in SPLITS
        }
        if not splits["train"]:
            raise DataError(f"no pair to train on in {', '.join(map(str, parsed.packed))}", "Build a larger data set")
        write(parsed.out, {split: pairs for split, pairs in splits.items() if pairs}, parsed.count)
        told = " and ".join(f"{len(pairs)} pairs to {split}" for split, pairs in splits.items())
        print(f"{parsed.count} phrasings of {told}, those the other way round included: {parsed.out}")

    return run_program(run)


if __name__ == "__main__":
    sys.exit(main())
