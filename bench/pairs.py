"""Measure ways of drawing pairs: `make bench-pairs`, or `python bench/pairs.py [--edits 24] [--only NAME ...]`.

Every way makes pairs of the same storybook triples, of another seed than the bundled data set and its calibration; they
are scored and filtered by the same thresholds. The judge, which is for evaluation only, then reads both pictures of
what is kept: a pair is fine if the edit happened, all other attributes are alike, and the layout has moved by less than
0.08 of the side. UNet rows and seconds, of drawing, scoring and storing, are per kept pair. Ways take turns, a few
triples at a time.

"recipe" is that of the authors of InstructPix2Pix, written plainly in bench/recipe.py: of each edit it draws
`--recipe-candidates` pairs to the end (theirs are 100), and at most 4 are kept. "before" is how the bundled data set
was drawn at first. "audited" is the bundled way without obeying its early rejection, which gives the recall of that.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from figures import require_figures, write_figures
from recipe import draw_by_recipe
from rich.console import Console
from rich.table import Table

from ip2p.config import load_config
from ip2p.data_gen import rows
from ip2p.data_gen.config import DatasetConfig
from ip2p.data_gen.pairs.draw import PairMaker, plan_candidates
from ip2p.data_gen.pairs.filter import decide
from ip2p.data_gen.pairs.scores import Scorers, score_candidates
from ip2p.data_gen.pairs.shard import ShardDrawer, Tools
from ip2p.data_gen.pipeline import write_triples
from ip2p.device import best_device
from ip2p.errors import run_program
from ip2p.measuring.clip import ClipScorer
from ip2p.measuring.verdicts import Verdict, judge_pairs
from ip2p.models.backbone import Backbone
from ip2p.models.inference import load_for_inference
from ip2p.records import Candidate, Reason, Triple
from ip2p.shards import read_shards
from ip2p.storybook.edits import edit_between_captions
from ip2p.storybook.judge import Judge
from ip2p.storybook.scene import Edit

BUNDLED = "storybook_dataset.yaml"
SIMPLE = (
    "pairs.enough=0", "pairs.give_up_below=0", "pairs.early_at=0", "pairs.tree=1", "pairs.guidance_stop=1",
)  # fmt: skip
"""Every candidate to its end."""
RECIPE = "recipe"
WAYS: dict[str, tuple[str, ...]] = {
    RECIPE: (*SIMPLE, "pairs.scheduler=euler_a", "pairs.steps=100", "pairs.p_min=0.1", "pairs.p_max=0.9"),
    "before": (*SIMPLE, "pairs.candidates=4", "pairs.scheduler=euler_a", "pairs.steps=16"),
    "bundled": (),
    "audited": ("pairs.early_audit=1",),
}
OTHERS: dict[str, tuple[str, ...]] = {  # "10 steps" is how the bundled data set was drawn until these were 7
    "one try": (*SIMPLE, "pairs.candidates=1"),
    "one try, guidance to 0.8": (*SIMPLE, "pairs.candidates=1", "pairs.guidance_stop=0.8"),
    "10 steps": (
        "pairs.steps=10",
        "pairs.guidance_stop=0.8",
        "pairs.candidates=6",
        "pairs.enough=2",
        "pairs.give_up_below=0.1",
        "filter.top_k=2",
        "pairs.p_min=0.2",
        "pairs.p_max=0.6",
        "pairs.cfg_max=5",
        "pairs.per_kind={}",
    ),
    "8 steps": ("pairs.steps=8",),
    "unipc, 8 steps": ("pairs.steps=8", "pairs.scheduler=unipc"),
    "trees of 3": ("pairs.tree=3",),
    "early at 0.3": ("pairs.early_at=0.3", "pairs.early_margin=0.1", "pairs.early_audit=1"),
    "early at 0.5": ("pairs.early_at=0.5", "pairs.early_margin=0.1", "pairs.early_audit=1"),
}
"""Ways that are measured only if they are named."""
SEED = 77
CHUNK = 4
"""Edits of a turn."""
WIDTH = 132
"""Characters of the table."""


@dataclass
class Tally:
    """Results so far of one way to draw pairs.

    Attributes:
        candidates: all candidates, decided.
        verdicts: verdicts of the judge on the kept ones.
        hopeless: number of kept ones that an early estimate had called hopeless.
        rows, seconds: UNet rows and seconds of all candidates.
    """

    candidates: list[Candidate] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    hopeless: int = 0
    rows: int = 0
    seconds: float = 0.0

    def figures(self, way: str) -> dict[str, float | str | int]:
        """Return the figures of the way; shares are of the kept pairs, or of 1 if there are none."""
        kept = [each for each in self.candidates if each.reason is Reason.OK]
        count, early = max(1, len(kept)), sum(each.reason is Reason.REJECTED_EARLY for each in self.candidates)
        return {
            "way": way, "drawn": len(self.candidates), "kept": len(kept),
            "fine": sum(each.fine for each in self.verdicts) / count,
            "happened": sum(each.happened for each in self.verdicts) / count,
            "alike": sum(each.alike for each in self.verdicts) / count,
            "direction": sum(each.sim_direction for each in kept) / count,
            "seeds": len({each.seed for each in kept}) / count,
            "early": early / max(1, len(self.candidates)),
            "recall": 1 - self.hopeless / count,
            "rows": self.rows / count, "seconds": self.seconds / count,
        }  # fmt: skip


@dataclass(frozen=True)
class Bench:
    """The models of all ways."""

    backbone: Backbone
    scorers: Scorers
    judge: Judge

    def add(self, tally: Tally, config: DatasetConfig, triples: Sequence[Triple], *, by_recipe: bool) -> None:
        """Make pairs of some triples in a way, and add them to its tally."""
        edits = {each.id: edit for each in triples if (edit := edit_of(each))}
        kinds = {triple.id: triple.kind for triple in triples}
        maker = PairMaker(self.backbone, config.pairs)
        began = time.monotonic()
        if by_recipe:
            pairs = list(draw_by_recipe(self.backbone, plan_candidates(triples, config.pairs, SEED), maker.side))
            by_id = {triple.id: triple for triple in triples}
            candidates, pictures = [each.candidate for each in pairs], [(each.source, each.edited) for each in pairs]
            scored = score_candidates(
                candidates, pictures, [by_id[each.triple_id] for each in candidates], self.scorers
            )
            seen = dict(zip((each.id for each in candidates), pictures, strict=True))
            tally.rows += sum(each.unet_rows for each in pairs)
            hopeless = set[str]()
        else:
            with tempfile.TemporaryDirectory() as folder:
                shard = ShardDrawer(triples, config, config.filter, Path(folder), "bench")
                made = shard.draw(lambda: Tools(maker, self.scorers), after_batch=lambda batch, now: None)
                seen = {
                    row["id"]: (rows.from_png(row["original_image"]), rows.from_png(row["edited_image"]))
                    for row in shard.stored()
                }
            scored = [rows.to_candidate(row) for row in made]
            tally.rows += sum(row["unet_rows"] for row in made)
            hopeless = {row["id"] for row in made if row["early"] == "hopeless"}
        decided = decide(scored, kinds, config.filter)
        tally.seconds += time.monotonic() - began
        kept = [each for each in decided if each.reason is Reason.OK]
        tally.candidates += decided
        tally.hopeless += sum(each.id in hopeless for each in kept)
        shown = [seen[each.id] for each in kept]
        tally.verdicts += judge_pairs(self.judge, [edits[each.triple_id] for each in kept], shown)


def edit_of(triple: Triple) -> Edit | None:
    """Return the edit of a storybook triple, or None if it is not exactly one."""
    return edit_between_captions(triple.caption, triple.edited_caption)


def write_some_triples(count: int) -> list[Triple]:
    """Write the triples of `count` captions, as for the bundled data set; those that are one edit of one attribute."""
    with tempfile.TemporaryDirectory() as folder:
        overrides = [f"out={folder}", f"seed={SEED}", f"captions.count={count}"]
        write_triples(load_config(DatasetConfig, BUNDLED, overrides), say=lambda line: None)
        written = [Triple.model_validate(row) for row in read_shards(Path(folder) / "triples")]
    return [each for each in written if each.status == "ok" and edit_of(each)]


def run(parsed: argparse.Namespace) -> None:
    """Measure all ways, print the table, and write the figures."""
    require_figures(parsed.out)
    ways = {name: WAYS[name] if name in WAYS else OTHERS[name] for name in parsed.only or WAYS}
    precision = f"pairs.precision={parsed.precision}"
    configs = {
        name: load_config(DatasetConfig, BUNDLED, [*settings, precision, "pairs.store_refused=0"])
        for name, settings in ways.items()
    }
    if RECIPE in configs:
        pairs = configs[RECIPE].pairs.model_copy(update={"candidates": parsed.recipe_candidates})
        configs[RECIPE] = configs[RECIPE].model_copy(update={"pairs": pairs})
    any_config = next(iter(configs.values()))
    bench = Bench(
        load_for_inference(any_config.pairs.model, want="base", precision=parsed.precision, device=best_device()),
        Scorers(ClipScorer.from_pretrained(any_config.scores.clip, device=best_device())),
        Judge.from_pretrained("storybook-judge"),
    )
    triples, console = write_some_triples(parsed.edits), Console(width=WIDTH)
    tallies = {name: Tally() for name in ways}
    for start in range(0, len(triples), CHUNK):
        for name, config in configs.items():
            bench.add(tallies[name], config, triples[start : start + CHUNK], by_recipe=name == RECIPE)
        done = ", ".join(f"{name} {tally.seconds:.0f} s" for name, tally in tallies.items())
        console.print(f"{min(start + CHUNK, len(triples))} of {len(triples)} edits: {done}", highlight=False)
    results = [tally.figures(name) for name, tally in tallies.items()]
    table = Table(
        "way", "kept", "fine", "happened", "alike", "direction", "seeds", "early", "recall", "rows a pair", "seconds"
    )
    for each in results:
        shares = (f"{each[name]:.1%}" for name in ("fine", "happened", "alike"))
        table.add_row(
            str(each["way"]), f"{each['kept']} of {each['drawn']}", *shares, f"{each['direction']:.3f}",
            f"{each['seeds']:.0%}", f"{each['early']:.0%}", f"{each['recall']:.1%}", f"{each['rows']:.1f}",
            f"{each['seconds']:.2f}",
        )  # fmt: skip
    console.print(table)
    report = {
        "edits": len(triples), "precision": parsed.precision,
        "recipe_candidates": parsed.recipe_candidates, "threads": torch.get_num_threads(), "results": results,
    }  # fmt: skip
    write_figures(parsed.out, report, console)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--edits", type=int, default=24, help="captions to edit (default: 24)")
    parser.add_argument(
        "--only", nargs="*", choices=[*WAYS, *OTHERS], help=f"ways to measure (default: {', '.join(WAYS)})"
    )
    parser.add_argument(
        "--recipe-candidates", type=int, default=100, help="pairs that the recipe draws of each edit (default: 100)"
    )
    parser.add_argument("--precision", default="fp32", help="precision of the base model (default: fp32)")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/pairs.json"), help="file of the figures")
    parsed = parser.parse_args()
    return run_program(lambda: run(parsed))


if __name__ == "__main__":
    sys.exit(main())
