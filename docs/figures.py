"""Bring the figures of an evaluation into the README: `python docs/figures.py EVALUATION.json`.

It draws the trade-off curves as docs/curve.svg, where the evaluation has some (`ip2p evaluate --curve`), and prints
what belongs into the README: the picture, and the figures with their intervals, all of them in the file.
"""

import argparse
import sys
from pathlib import Path

from ip2p.errors import DataError, run_program
from ip2p.evaluation.curve import curve_chart
from ip2p.evaluation.measures import MEASURES
from ip2p.evaluation.methods import BOUND, EDITOR, SDEDIT
from ip2p.evaluation.report import Evaluation, read_report
from ip2p.evaluation.scores import OVERALL, Scores, overall_table
from ip2p.plurals import counted
from ip2p.shards import atomic_write

DOCS = Path(__file__).parent
CURVE = "curve.svg"
SHOWN = ("kept", "product", "clip_direction", "clip_image")
"""Measures beside the one that leads: what is kept, the judge's, and the axes of the curve."""


def summary(evaluation: Evaluation) -> str:
    """Return the headline of an evaluation: the editor's figures beside those of the bound and the best SDEdit.

    Raises:
        DataError: it did not measure the editor.
    """
    found = evaluation.scores.get(EDITOR, {}).get(OVERALL, {})
    if not found:
        raise DataError("the evaluation has no figures of an editor", "Evaluate with editor among the --methods")
    first = next(name for name in MEASURES if name in found)
    measures = [name for name in dict.fromkeys((first, *SHOWN)) if name in found]
    scores: Scores = {}
    for method, name in _titles(evaluation, first).items():
        all_figures = evaluation.scores[method][OVERALL]
        scores[name] = {OVERALL: {each: all_figures[each] for each in measures if each in all_figures}}
    about, samples = evaluation.about, counted(len(evaluation.samples), "sample")
    said = f"{about['editor']} on {samples} of {about['data']}, with 95 % intervals over samples in brackets:"
    return f"{said}\n\n{overall_table(scores)}"


def _titles(evaluation: Evaluation, measure: str) -> dict[str, str]:
    """Titles of the methods to show, by name: the editor, the bound, and the strength of SDEdit that does best."""
    there = {
        name: each[OVERALL][measure] for name, each in evaluation.scores.items() if measure in each.get(OVERALL, {})
    }
    strengths = [name for name in there if name.startswith(SDEDIT)]
    best = max(strengths, key=lambda name: there[name].value, default=None)
    shown = [EDITOR, *([BOUND] if BOUND in there else []), *([best] if best else [])]
    return {name: name + _fewer(evaluation, name, measure) for name in shown}


def _fewer(evaluation: Evaluation, method: str, measure: str) -> str:
    """Words for the samples that a method was measured on, if they are fewer than the editor's."""
    rows, all_rows = (evaluation.scores[name][OVERALL][measure].rows for name in (method, EDITOR))
    if rows >= all_rows:
        return ""
    figures = evaluation.methods[method].figures
    leading = all(measure in figures.get(name, {}) for name in list(evaluation.samples)[:rows])
    return f", the first {rows}" if leading else f", {rows} of them"


def write_figures(file: Path, folder: Path) -> str:
    """Write the curve of an evaluation into a folder; returns the lines for the README.

    Raises:
        DataError: the file is no evaluation.
    """
    evaluation = read_report(file)
    lines = [summary(evaluation)]
    if evaluation.curves:
        atomic_write(folder / CURVE, curve_chart(evaluation.curves).__html__().encode())
        lines.insert(0, f"![Trade-off curves of the editor and of others on the same base model]({DOCS.name}/{CURVE})")
    return "\n\n".join(lines)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("evaluation", type=Path, help="evaluation.json, or the folder of an evaluation")
    parsed = parser.parse_args()
    return run_program(lambda: print(write_figures(parsed.evaluation, DOCS)))


if __name__ == "__main__":
    sys.exit(main())
