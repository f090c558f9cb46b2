"""Measure how often the judge agrees with a person: `python bench/judge.py [FOLDER ...] [--sheets FOLDER]`.

A person labelled edits of several editors, many of them unclear (`labelled_edits.py`): whether the requested change is
visible, whole and clear. The judge decides the same.
"""

import argparse
import sys
from pathlib import Path

from labelled_edits import draw_sheets, read_labelled

from ip2p.errors import run_program
from ip2p.pictures.tensors import to_tensor
from ip2p.storybook.judge import Judge


def run(parsed: argparse.Namespace) -> None:
    """Print the agreement, and draw sheets if asked."""
    edits = read_labelled(parsed.folders)
    found = Judge.from_pretrained(parsed.judge).measure(
        to_tensor([each.edited for each in edits]), [each.case for each in edits]
    )
    said = [outcome.success for outcome in found]
    share = 100 * sum(each.label == one for each, one in zip(edits, said, strict=True)) / len(edits)
    accepted = sum(bool(each.label) for each in edits)
    print(f"agreement {share:.0f} % of {len(edits)} edits; the eye accepts {accepted}, the judge {sum(said)}")
    if parsed.sheets:
        texts = [
            f"{each.case.instruction} ({each.case.edit.attribute}: {each.case.edit.value}); "
            f"eye {each.label:d}, judge {one:d}"
            for each, one in zip(edits, said, strict=True)
        ]
        draw_sheets(edits, texts, parsed.sheets)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*", type=Path, help="folders of labelled edits (default: all of bench/eye)")
    parser.add_argument("--judge", default="storybook-judge", help="judge: bundled name or folder")
    parser.add_argument("--sheets", type=Path, help="draw sheets of the edits with both decisions into this folder")
    parsed = parser.parse_args()
    return run_program(lambda: run(parsed))


if __name__ == "__main__":
    sys.exit(main())
