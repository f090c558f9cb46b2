"""Measure ways of drawing pairs: `make bench-pairs`, or `python bench/pairs.py [--edits 48] [--only NAME ...]`.

Each way draws one candidate for each of some held-out storybook edits, with the same seeds, shares and guidance scales.
They are scored and filtered as in configs/storybook_dataset.yaml. The judge, which is for evaluation only, then reads
both pictures of what is kept: a pair is fine if the edit happened, all other attributes are alike, and the layout has
moved by less than 0.08 of the side. UNet rows and seconds are per kept pair.

"recipe" is that of the authors of InstructPix2Pix: 100 steps of Euler ancestral, four rows at each of them, attention
only. "before" is how the bundled data set was drawn at first.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table

from ip2p.config import load_config
from ip2p.data_gen.config import DatasetConfig
from ip2p.data_gen.pairs.draw import PairMaker, plan_candidates
from ip2p.data_gen.pairs.filter import decide
from ip2p.data_gen.pairs.scores import Scorers, score_candidates
from ip2p.device import best_device
from ip2p.errors import run_program
from ip2p.measuring.clip import ClipScorer
from ip2p.measuring.verdicts import judge_pairs
from ip2p.models.inference import load_for_inference
from ip2p.records import Triple
from ip2p.shards import atomic_write
from ip2p.storybook.edits import Case, evaluation_cases
from ip2p.storybook.judge import Judge

BUNDLED = "storybook_dataset.yaml"
WAYS: dict[str, dict[str, Any]] = {
    "recipe": {"scheduler": "euler_a", "steps": 100, "guidance_stop": 1.0, "share": "attention", "batch": 4},
    "before": {"scheduler": "euler_a", "steps": 16, "guidance_stop": 1.0},
    "euler_a, guidance every 2nd step": {"scheduler": "euler_a", "steps": 16, "guidance_stop": 1.0, "text_every": 2},
    "dpm 10": {"scheduler": "dpm", "steps": 10, "guidance_stop": 1.0},
    "dpm 8": {"scheduler": "dpm", "steps": 8, "guidance_stop": 1.0},
    "dpm 8, guidance to 0.8": {"scheduler": "dpm", "steps": 8, "guidance_stop": 0.8},
    "unipc 8": {"scheduler": "unipc", "steps": 8, "guidance_stop": 1.0},
    "bundled": {},
}
SEED = 77


class WayFigures(NamedTuple):
    """Figures of one way, over the pairs that it kept.

    Attributes:
        way: name of the way.
        drawn, kept: numbers of candidates.
        fine: share of the kept pairs that are fine.
        happened: share whose edit happened.
        alike: mean share of the other attributes that are alike.
        direction: mean directional similarity.
        rows, seconds: UNet rows and seconds of drawing, per kept pair.
    """

    way: str
    drawn: int
    kept: int
    fine: float
    happened: float
    alike: float
    direction: float
    rows: float
    seconds: float


def triples_of(cases: Sequence[Case]) -> list[Triple]:
    """Return the triples of held-out edits."""
    return [
        Triple(
            id=str(number), caption_id=str(number), caption=case.caption, instruction=case.instruction,
            edited_caption=case.edited_caption, kind=case.edit.kind, writer="rules",
        )
        for number, case in enumerate(cases)
    ]  # fmt: skip


def run(parsed: argparse.Namespace) -> None:
    """Measure all ways, print the table, and write the figures."""
    config = load_config(DatasetConfig, BUNDLED, [])
    cases = evaluation_cases(parsed.edits, seed=SEED)
    triples = triples_of(cases)
    backbone = load_for_inference(config.pairs.model, want="base", precision=parsed.precision)
    judge = Judge.from_pretrained("storybook-judge")
    scorers = Scorers(ClipScorer.from_pretrained(config.scores.clip, device=best_device()))
    console, results = Console(), []
    for way, settings in WAYS.items():
        if parsed.only and way not in parsed.only:
            continue
        maker = PairMaker(backbone, config.pairs.model_copy(update={"candidates": 1, **settings}))
        planned = plan_candidates(triples, maker.settings, SEED)
        began = time.monotonic()
        pairs = list(maker.draw(planned))
        seconds = time.monotonic() - began
        pictures = [(pair.source, pair.edited) for pair in pairs]
        scored = score_candidates([pair.candidate for pair in pairs], pictures, triples, scorers)
        decided = decide(scored, {each.id: each.kind for each in triples}, config.filter)
        kept = [row for row, each in enumerate(decided) if each.status == "ok"]
        judged = judge_pairs(judge, [case.edit for case in cases], pictures)
        count = max(1, len(kept))
        fine, happened, alike = (sum(float(judged[row][place]) for row in kept) / count for place in range(3))
        direction = sum(scored[row].sim_direction for row in kept) / count
        rows = sum(pair.unet_rows for pair in pairs) / count
        results.append(WayFigures(way, len(pairs), len(kept), fine, happened, alike, direction, rows, seconds / count))
        console.print(f"{way}: {seconds:.0f} s", highlight=False)
    table = Table("way", "kept", "fine", "happened", "alike", "direction", "rows a kept pair", "seconds")
    for each in results:
        table.add_row(
            each.way, f"{each.kept} of {each.drawn}", f"{each.fine:.1%}", f"{each.happened:.1%}", f"{each.alike:.1%}",
            f"{each.direction:.3f}", f"{each.rows:.1f}", f"{each.seconds:.2f}",
        )  # fmt: skip
    console.print(table)
    report = {
        "command": "python " + " ".join(sys.argv), "edits": len(cases), "precision": parsed.precision,
        "threads": torch.get_num_threads(), "results": [each._asdict() for each in results],
    }  # fmt: skip
    atomic_write(parsed.out, (json.dumps(report, indent=1) + "\n").encode())
    console.print(f"wrote {parsed.out}", highlight=False)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--edits", type=int, default=48, help="held-out edits (default: 48)")
    parser.add_argument("--only", nargs="*", help="names of the ways to measure (default: all)")
    parser.add_argument("--precision", default="fp32", help="precision of the base model (default: fp32)")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/pairs.json"), help="file of the figures")
    parsed = parser.parse_args()
    return run_program(lambda: run(parsed))


if __name__ == "__main__":
    sys.exit(main())
