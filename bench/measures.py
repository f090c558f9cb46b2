"""Measure the measures: `python bench/measures.py [--faults 60] [--folders FOLDER ...] [--judge openai:MODEL]`.

First, faults are planted into exact targets, and each measure is asked to tell them. Second, each measure is compared
with a person's labels of edits, many of them unclear, see `labelled_edits.py`.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from labelled_edits import read_labelled

from ip2p.errors import run_program
from ip2p.measuring.agreement import measure_agreement
from ip2p.measuring.clip import ClipScorer, PairScores
from ip2p.measuring.dino import Dino
from ip2p.measuring.intervals import Interval
from ip2p.measuring.pixel_truth import PixelTruth, pixel_truth
from ip2p.measuring.planted_faults import Measure, Trial, judge_measure, plant_faults
from ip2p.measuring.published import magic_brush
from ip2p.measuring.tables import markdown_table
from ip2p.measuring.vision_judge import JudgedEdit, VisionJudge, encode_png, judge_server
from ip2p.pictures.tensors import to_tensor
from ip2p.storybook.judge import Judge
from ip2p.storybook.render import render
from ip2p.storybook.scene import ATTRIBUTES

SEED = 11


def truth_of(trials: Sequence[Trial]) -> PixelTruth:
    """Measure pixel truth."""
    source, target, edited = (
        to_tensor([getattr(each, side) for each in trials]) / 2 + 0.5 for side in ("source", "target", "edited")
    )
    return pixel_truth(source, target, edited)


def make_measures(
    clip: ClipScorer, judge: Judge, vision: VisionJudge | None, dino: Dino | None = None
) -> dict[str, Measure]:
    """Make all measures by name; those of a vision model and of DINO if there are these."""

    def scores(trials: Sequence[Trial]) -> PairScores:
        return clip.scores(
            [each.source for each in trials], [each.edited for each in trials],
            [each.case.caption for each in trials], [each.case.edited_caption for each in trials],
        )  # fmt: skip

    def believed(trials: Sequence[Trial]) -> list[float]:
        belief = judge.believe(to_tensor([each.edited for each in trials])).attributes
        edits = [each.case.edit for each in trials]
        return [
            float(belief[edit.attribute][row, ATTRIBUTES[edit.attribute].index(edit.value)])
            for row, edit in enumerate(edits)
        ]

    def judged(trials: Sequence[Trial]) -> list[tuple[float, float]]:
        found = judge.measure(to_tensor([each.edited for each in trials]), [each.case for each in trials])
        return [(float(each.success), each.preservation) for each in found]

    def exact(trials: Sequence[Trial], name: str) -> list[float]:
        texts = [each.case.edited_caption for each in trials]
        return magic_brush([each.edited for each in trials], [each.target for each in trials], texts, clip=clip)[name]

    def near(trials: Sequence[Trial]) -> list[float]:
        assert dino is not None
        edited, target = (dino.embed([getattr(each, side) for each in trials]) for side in ("edited", "target"))
        return (edited * target).sum(-1).tolist()

    def asked(trials: Sequence[Trial]) -> list[float]:
        assert vision is not None
        edits = [JudgedEdit(each.case, partial(encode_png, each.source), encode_png(each.edited)) for each in trials]
        return [each.edit * each.kept if each else math.nan for each in vision.judge(edits)]

    made: dict[str, Measure] = {
        "pixel truth": lambda trials: truth_of(trials).score.tolist(),
        "edit accuracy": lambda trials: truth_of(trials).mean_accuracy.tolist(),
        "nearer to the target": lambda trials: truth_of(trials).mean_nearer.tolist(),
        "L1 against the target": lambda trials: [-each for each in exact(trials, "L1")],
        "CLIP image against the target": lambda trials: exact(trials, "CLIP-I"),
        "CLIP image against the input": lambda trials: scores(trials).image.tolist(),
        "CLIP direction": lambda trials: scores(trials).direction.tolist(),
        "CLIP caption": lambda trials: scores(trials).edited.tolist(),
        "judge: success": lambda trials: [success for success, _ in judged(trials)],
        "judge: probability": believed,
        "judge: success x preservation": lambda trials: [a * b for a, b in judged(trials)],
    }
    if dino:
        made["DINO against the target"] = near
    if vision:
        made[f"{vision.server.model}: edit x kept"] = asked
    return made


def show(found: Interval, *, bounds: bool = True) -> str:
    """Format an interval; one of no scores, as of a vision model whose budget has ended, is a dash."""
    if math.isnan(found.value):
        return "-"
    told = f" ({found.low:.2f} to {found.high:.2f})" if bounds and math.isfinite(found.low) else ""
    return f"{found.value:.2f}{told}"


def run(parsed: argparse.Namespace) -> None:
    """Print how well each measure tells planted faults, and how often it agrees with the eye.

    Labels and the access to a vision model are checked first, since all measures are computed before any is printed.
    """
    edits, vision = read_labelled(parsed.folders), None
    if parsed.judge:
        server = judge_server(parsed.judge, url=parsed.judge_url, budget=parsed.judge_budget)
        vision = VisionJudge(server, parsed.out, say=print)
        vision.require_access()
    dino = Dino.from_pretrained(parsed.dino) if parsed.dino else None
    measures = make_measures(
        ClipScorer.from_pretrained(parsed.clip), Judge.from_pretrained("storybook-judge"), vision, dino
    )
    if parsed.faults:
        planted = plant_faults(parsed.faults, SEED)
        table = {name: judge_measure(measure, planted, seed=SEED) for name, measure in measures.items()}
        faults = list(next(iter(table.values())))
        lines = [[name, *(show(found[fault], bounds=False) for fault in faults)] for name, found in table.items()]
        print(f"AUC at telling faults from {parsed.faults} exact targets:\n")
        print(markdown_table(["measure", *faults], lines))
        bounded = [each for found in table.values() for each in found.values() if math.isfinite(each.low)]
        if bounded:
            print(f"\nThe widest 95 % interval is that of {show(max(bounded, key=lambda one: one.high - one.low))}.")
    labels = [bool(each.label) for each in edits]
    trials = [Trial(render(each.case.scene), render(each.case.target), each.edited, each.case) for each in edits]
    print(f"\nAgreement with the eye on {len(labels)} edits, of which it accepts {sum(labels)}:\n")
    lines = []
    for name, measure in measures.items():
        found = measure_agreement(list(measure(trials)), labels, seed=SEED)
        lines.append([name, show(found.auc), show(found.accuracy)])
    print(markdown_table(["measure", "AUC", "accuracy"], lines))


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=int, default=60, help="number of edits into which faults are planted")
    parser.add_argument(
        "--folders", nargs="*", type=Path, default=[], help="folders of labelled edits (default: all of bench/eye)"
    )
    parser.add_argument("--clip", default="storybook-clip-b", help="CLIP: bundled name or folder")
    parser.add_argument("--dino", help="DINO that is a measure, too: hub id or folder")
    parser.add_argument("--judge", help="vision model that is a measure, too: openai:MODEL")
    parser.add_argument("--judge-url", default="", help="address of its server")
    parser.add_argument("--judge-budget", type=float, default=1.0, help="most that it may cost, in USD (default: 1)")
    parser.add_argument("--out", type=Path, default=Path("runs/measures"), help="folder of its answers")
    parsed = parser.parse_args()
    return run_program(lambda: run(parsed))


if __name__ == "__main__":
    sys.exit(main())
