"""Measure what shared attention and features do to pairs: `python bench/sharing.py [--edits 100] [--base FOLDER]`.

The base model draws held-out edits, source and edited caption from the same noise. For a share p of the denoising steps
the edited picture uses the source's self-attention, or its decoder features as well. The judge, which is for evaluation
only, reads both pictures: whether the edited attribute is as requested, how many of the others are as in the source
picture, and how far the layout has moved between the two.
"""

import argparse
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from figures import require_figures, write_figures
from rich.console import Console
from rich.table import Table

from ip2p.data_gen.config import PairsConfig, ShareMode
from ip2p.data_gen.pairs.draw import Pair, PairMaker, PlannedCandidate
from ip2p.device import best_device
from ip2p.errors import run_program
from ip2p.models.backbone import load_backbone
from ip2p.pictures.tensors import to_tensor
from ip2p.records import Candidate
from ip2p.seeding import derive_seed
from ip2p.storybook.edits import Case, evaluation_cases
from ip2p.storybook.judge import Judge, Reading
from ip2p.storybook.scene import ATTRIBUTES

SHARES: tuple[tuple[ShareMode, float], ...] = (
    ("attention", 0.0), ("attention", 0.4), ("attention", 0.8), ("features", 0.4), ("features", 0.8),
)  # fmt: skip
SEED = 2024


class SharingFigures(NamedTuple):
    """Figures of one setting, as means over all edits.

    Attributes:
        share: shared part of the UNet: attention or features.
        p: share of the denoising steps that share.
        changed: share of the edits whose requested value the judge reads in the edited picture.
        kept: share of the other attributes that the judge reads the same in both pictures.
        moved: mean absolute difference of the layouts that it reads in both pictures, in fractions of the side.
        unet_rows: UNet rows of all edits.
        seconds: duration of drawing them.
    """

    share: str
    p: float
    changed: float
    kept: float
    moved: float
    unet_rows: int
    seconds: float


def plan_candidates(cases: Sequence[Case], p: float, *, cfg: float, steps: int) -> list[PlannedCandidate]:
    """Plan one candidate for each case, with the same noise for every p.

    Args:
        cases: edits to draw.
        p: share of the denoising steps that share, 0 to 1.
        cfg: guidance scale.
        steps: denoising steps.
    """
    return [
        PlannedCandidate(
            Candidate(
                id=str(number), triple_id=str(number), seed=derive_seed(SEED, "sharing", str(number)), p=p, cfg=cfg,
                steps=steps,
            ),
            case.caption,
            case.edited_caption,
        )
        for number, case in enumerate(cases)
    ]  # fmt: skip


def compare(cases: Sequence[Case], source: Reading, edited: Reading) -> tuple[float, float, float]:
    """Compare what the judge reads in both pictures; returns `changed`, `kept` and `moved` of SharingFigures."""
    changed, kept = [], []
    for row, case in enumerate(cases):
        asked = ATTRIBUTES[case.edit.attribute].index(case.edit.value)
        changed.append(int(edited.attributes[case.edit.attribute][row]) == asked)
        others = [name for name in ATTRIBUTES if name != case.edit.attribute]
        same = [bool(source.attributes[name][row] == edited.attributes[name][row]) for name in others]
        kept.append(sum(same) / len(same))
    moved = float((source.layout - edited.layout).abs().mean())
    return sum(changed) / len(cases), sum(kept) / len(cases), moved


def measure(maker: PairMaker, judge: Judge, cases: Sequence[Case], p: float, cfg: float) -> SharingFigures:
    """Draw all cases with one p, and read both pictures of each with the judge."""
    began = time.monotonic()
    pairs: list[Pair] = list(maker.draw(plan_candidates(cases, p, cfg=cfg, steps=maker.settings.steps)))
    seconds = time.monotonic() - began
    source, edited = (
        judge.read(to_tensor(images)) for images in ([pair.source for pair in pairs], [pair.edited for pair in pairs])
    )
    rows = sum(pair.unet_rows for pair in pairs)
    return SharingFigures(maker.settings.share, p, *compare(cases, source, edited), rows, seconds)


def print_table(results: Sequence[SharingFigures], console: Console) -> None:
    """Print the table, with the movement also in percent of that without sharing."""
    table = Table(
        "shared", "p", "changed as asked", "others kept", "layout moved", "against p = 0", "UNet rows", "seconds"
    )
    still = results[0].moved
    for each in results:
        against = f"{each.moved / still:.0%}" if still else "-"
        table.add_row(
            each.share, f"{each.p:g}", f"{each.changed:.1%}", f"{each.kept:.1%}", f"{each.moved:.4f}", against,
            str(each.unet_rows), f"{each.seconds:.0f}",
        )  # fmt: skip
    console.print(table)


def run(parsed: argparse.Namespace) -> None:
    """Measure all shares, print the table, and write the figures."""
    require_figures(parsed.out)
    backbone = load_backbone(parsed.base, device=best_device(), want="base")
    settings = PairsConfig(model=str(parsed.base), steps=parsed.steps, batch=parsed.batch, scheduler=parsed.scheduler)
    judge = Judge.from_pretrained(parsed.judge)
    cases = evaluation_cases(parsed.edits)
    console = Console()
    results = []
    for share, p in SHARES:
        maker = PairMaker(backbone, settings.model_copy(update={"share": share}))
        results.append(measure(maker, judge, cases, p, parsed.cfg))
        console.print(f"{share}, p = {p:g}: {results[-1].seconds:.0f} s", highlight=False)
    print_table(results, console)
    report = {
        "base": str(parsed.base),
        "edits": len(cases),
        "steps": parsed.steps,
        "cfg": parsed.cfg,
        "scheduler": parsed.scheduler,
        "device": f"{backbone.device.type}, {torch.get_num_threads()} threads, {platform.machine()}",
        "results": [each._asdict() for each in results],
    }
    write_figures(parsed.out, report, console)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--edits", type=int, default=100, help="held-out edits (default: 100)")
    parser.add_argument("--base", default="storybook-base", help="text-to-image model: bundled name or folder")
    parser.add_argument("--judge", default="storybook-judge", help="judge: bundled name or folder")
    parser.add_argument("--steps", type=int, default=20, help="denoising steps (default: 20)")
    parser.add_argument("--cfg", type=float, default=4.0, help="guidance scale (default: 4)")
    parser.add_argument("--scheduler", default="euler_a", help="euler_a, euler, ddim or dpm (default: euler_a)")
    parser.add_argument("--batch", type=int, default=10, help="pairs drawn at a time (default: 10)")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/sharing.json"), help="file of the figures")
    parsed = parser.parse_args()
    return run_program(lambda: run(parsed))


if __name__ == "__main__":
    sys.exit(main())
