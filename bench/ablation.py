"""Train editors on fewer, on unfiltered, and on otherwise filtered pairs: `make ablation`, or

    python bench/ablation.py --build data/storybook --minutes 10 [--only all,tenth] [key=value of training ...]

It asks what Figure 10 of InstructPix2Pix asks: whether editors are worse for fewer pairs and for pairs without the CLIP
filter; and besides, what calibrated thresholds and dropped conditions gain. All editors have the same base, seed and
number of updates, and but for "tenth" and "hundredth" at most as many pairs as "all". The build stays as it is.

Filtering, training and evaluation are the programs that everybody uses, each of which resumes: the same command goes on
after any end. With --minutes, a fifth of them goes into a first training that tells how many updates they hold.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ablation_report import Trained, write_ablation
from ablation_sets import (
    EVERY,
    OPEN,
    PAPERS,
    PairSet,
    choose_pairs,
    filter_settings,
    hash_build,
    link_build,
    packed_ids,
    read_set,
    read_thresholds,
    refiltered,
    write_set,
)

from ip2p.data_gen.build_file import read_build_file
from ip2p.errors import ConfigError, TrainingError, run_program
from ip2p.evaluation.load import NONE as NO_CLIP
from ip2p.evaluation.load import load_storybook, load_triplets
from ip2p.evaluation.methods import Extent, require_curve
from ip2p.evaluation.report import read_report
from ip2p.models.bundled import BUNDLED_NAMES
from ip2p.ownership import require_own, sole_writer
from ip2p.shards import atomic_write, fingerprint, sweep_temporaries
from ip2p.train.metrics import read_metrics

ROOT = Path(__file__).parents[1]
PLAN_FILE = "plan.json"
OUTPUTS = (PLAN_FILE, "builds", "sets", "runs", "evaluations", "steps", "ablation.html", "ablation.json")
PACE_SHARE = 5
"""Part of the minutes of a training, one over this, that tells how many updates they hold."""
STORYBOOK = "storybook"
say = partial(print, flush=True)
Run = Callable[[list[str]], int]
"""Function that runs a command line in the repository's root and returns its exit code."""


class Variant(NamedTuple):
    """An editor of the ablation.

    Attributes:
        name: name of its folders.
        meaning: what it is trained on.
        bounds: thresholds; None for those of the build.
        share: share of the pairs within them.
        settings: settings of its training that differ.
    """

    name: str
    meaning: str
    bounds: dict[str, Any] | None = None
    share: float = 1.0
    settings: tuple[str, ...] = ()


ALL, CALIBRATED, UNFILTERED = "all", "calibrated", "unfiltered"
VARIANTS = (
    Variant(ALL, "all kept pairs"),
    Variant("tenth", "10 % of them", share=0.1),
    Variant("hundredth", "1 % of them", share=0.01),
    Variant(UNFILTERED, "drawn pairs, without the filter", OPEN),
    Variant(CALIBRATED, "pairs within calibrated thresholds"),
    Variant("loose", "pairs within the paper's thresholds", PAPERS),
    Variant("undropped", "all kept pairs, no condition ever dropped", settings=("drop=0",)),
)


class Ablation:
    """An ablation in a folder.

    Args:
        parsed: arguments of the command line.
        run: function that runs a command line.
    """

    def __init__(self, parsed: argparse.Namespace, run: Run) -> None:
        self.parsed, self.run = parsed, run
        self.out: Path = parsed.out
        self.build = read_build_file(parsed.build)
        self.base = parsed.base or from_anywhere(self.build["pairs.model"])
        self.mark = hash_build(parsed.build)

    def make(self) -> Path:
        """Make the sets, the editors, their evaluations and the report, or go on; returns the path of the report.

        Raises:
            ConfigError: the folder is of an ablation with other settings.
            DataError: the folder is of somebody else's, or a set is empty.
            TrainingError: a program ended with an error, or editors have different numbers of updates.
        """
        require_own(self.out, OUTPUTS, mark=PLAN_FILE, keys=("ablation", "updates"))
        self.out.mkdir(parents=True, exist_ok=True)
        with sole_writer(self.out):
            for place in (self.out, self.out / "sets", self.out / "steps"):
                sweep_temporaries(place)
            plan = self._plan()
            variants, curve = self._variants(), self._can_have_curve()
            sets = {each.name: self._set(each) for each in variants}
            updates = plan["updates"] or self._count_updates(sets[ALL])
            say(f"{len(variants)} editors of {updates} updates each")
            trained = [self._train(each, sets[each.name], updates) for each in variants]
            if len({each.updates for each in trained}) > 1:
                told = ", ".join(f"{each.name} {each.updates}" for each in trained)
                raise TrainingError(
                    f"the editors have different numbers of updates: {told}",
                    "Steps without a finite gradient do not count: give a lower learning_rate, and another --out",
                )
            reports = {each.name: read_report(self._evaluate(each, curve=curve)) for each in variants}
            about = {"build": str(self.parsed.build), "base": self.base, "seed": self.parsed.seed, "updates": updates}
            return write_ablation(self.out, trained, reports, about, say)

    def _plan(self) -> dict[str, Any]:
        """Read the plan, or write it; it has all that the editors depend on, and their updates once these are known."""
        names = ("minutes", "updates", "config", "scenes", "pairs", "seed", "curve_samples", "settings", "precision")
        asked = {name: getattr(self.parsed, name) for name in names}
        asked |= {"base": self.base, "drawn": self.mark, "thresholds": str(self.parsed.thresholds or "")}
        asked |= refiltered(self.build)  # "all kept pairs" are those of the build as it was filtered then
        file = self.out / PLAN_FILE
        plan = json.loads(file.read_text()) if file.exists() else {"ablation": asked, "updates": self.parsed.updates}
        if (begun := plan["ablation"]) != asked:
            name = next(each for each in asked | begun if begun.get(each) != asked.get(each))
            raise ConfigError(
                f"{name} was {begun.get(name)!r} when {self.out} was begun, and is {asked.get(name)!r} now",
                "Give another folder by --out, or the same settings",
            )
        atomic_write(file, (json.dumps(plan, indent=1) + "\n").encode())
        return dict(plan)

    def _variants(self) -> list[Variant]:
        """The editors that are asked for and can be made, "all" first."""
        wanted = self.parsed.only or [each.name for each in VARIANTS]
        if unknown := sorted(set(wanted) - {each.name for each in VARIANTS}):
            raise ConfigError(
                f"there is no editor {unknown[0]!r}", f"Give some of {', '.join(v.name for v in VARIANTS)}"
            )
        chosen = [each for each in VARIANTS if each.name in wanted or each.name == ALL]
        knows_judge = self.build.get("captions.source") == STORYBOOK
        if any(each.name == CALIBRATED for each in chosen) and not (self.parsed.thresholds or knows_judge):
            say("left out: calibrated; the judge knows storybook only. --thresholds takes a calibration.yaml of yours")
            return [each for each in chosen if each.name != CALIBRATED]
        return chosen

    def _set(self, variant: Variant) -> PairSet:
        """Make the set of an editor by other thresholds, or by fewer of the kept pairs."""
        if variant.settings:  # it differs in its training alone
            variant = variant._replace(name=ALL)
        folder = self.out / "sets" / variant.name
        key = {"drawn": self.mark, "share": variant.share}
        packed = self._filter(ALL, []) if variant.bounds is None else None
        if variant.name == CALIBRATED:
            bounds = read_thresholds(self.parsed.thresholds or self._calibrate())
            packed, key = self._filter(variant.name, filter_settings(bounds)), key | {"bounds": bounds}
        elif variant.bounds is not None:
            packed = self._filter(variant.name, self._bounds(variant))
        assert packed is not None

        def write() -> None:
            own = self.out / "builds" / ALL / "packed"
            stored, whole = float(self.build.get("pairs.store_refused", 1.0)), packed_ids(own)
            ids = choose_pairs(packed_ids(packed), whole, share=variant.share, stored=stored, most=len(whole))
            write_set(packed, ids, own, folder)

        self._once(f"set-{variant.name}", key, write)
        return read_set(folder)

    def _can_have_curve(self) -> bool:
        """Tell whether evaluations can have curves; they would refuse one of nothing, but after all trainings."""
        asked = self.parsed
        data = (
            load_triplets(asked.pairs, 0, limit=asked.scenes)
            if asked.pairs
            else load_storybook(asked.scenes, 0, free=False)
        )
        extent = Extent(("editor",), curve=True, curve_samples=asked.curve_samples)
        try:
            require_curve(extent, data.samples, has_clip=asked.clip != NO_CLIP)
        except ConfigError as error:
            say(f"left out: curves; {error.what}")
            return False
        return True

    @staticmethod
    def _bounds(variant: Variant) -> list[str]:
        return filter_settings(variant.bounds or {}, top_k=EVERY if variant.name == UNFILTERED else None)

    def _filter(self, name: str, settings: list[str]) -> Path:
        """Filter and pack the build by other thresholds, in a folder beside it."""
        folder = self.out / "builds" / name
        link_build(self.parsed.build, folder)
        command = [*_ip2p("dataset", "filter"), f"out={folder}", *settings]
        self._once(f"filter-{name}", {"command": command, "drawn": self.mark}, lambda: self._program(command))
        return folder / "packed"

    def _calibrate(self) -> Path:
        """Calibrate thresholds by the judge's labels of drawn pairs, whatever the filter says of them."""
        self._filter(UNFILTERED, filter_settings(OPEN, top_k=EVERY))
        folder = self.out / "builds" / UNFILTERED
        command = [*_ip2p("dataset", "calibrate"), f"out={folder}", "--precision", str(self.parsed.precision)]
        self._once("calibrate", {"command": command, "drawn": self.mark}, lambda: self._program(command))
        return folder / "calibration.yaml"

    def _count_updates(self, pairs: PairSet) -> int:
        """Count the updates that the minutes hold, by a short training, and write them into the plan."""
        minutes, out = self.parsed.minutes / PACE_SHARE, self.out / "runs" / "pace"
        quiet = ["steps=1000000000", f"minutes={minutes}", "validate_every=1000000000", "validation_edits=0"]
        command = self._training(pairs, out, [*quiet, "validation_exact=0"])
        self._once("pace", {"command": command, "set": pairs.digest}, lambda: self._program(command))
        updates = max(1, PACE_SHARE * max((int(row["step"]) for row in read_metrics(out / "metrics.jsonl")), default=0))
        plan = json.loads((self.out / PLAN_FILE).read_text()) | {"updates": updates}
        atomic_write(self.out / PLAN_FILE, (json.dumps(plan, indent=1) + "\n").encode())
        return updates

    def _training(self, pairs: PairSet, out: Path, settings: Sequence[str]) -> list[str]:
        config = ["--config", self.parsed.config] if self.parsed.config else []
        launch = [str(Path(sys.executable).with_name("accelerate")), "launch", "train/finetune.py"]
        common = [f"base={self.base}", f"dataset={pairs.folder}", f"out={out}", f"seed={self.parsed.seed}"]
        return [
            *launch,
            *config,
            *common,
            f"cache_folder={self.out / 'runs' / 'latents'}",
            *self.parsed.settings,
            *settings,
        ]

    def _train(self, variant: Variant, pairs: PairSet, updates: int) -> Trained:
        """Train an editor, or go on."""
        out = self.out / "runs" / variant.name
        command = self._training(pairs, out, [f"steps={updates}", "minutes=null", "epochs=null", *variant.settings])
        self._once(f"train-{variant.name}", {"command": command, "set": pairs.digest}, lambda: self._program(command))
        newest = max((out / "checkpoints").glob("step-*/state.json"))
        losses = [row["held_out_loss"] for row in read_metrics(out / "metrics.jsonl") if "held_out_loss" in row]
        counted = json.loads(newest.read_text())["updates"]
        return Trained(variant.name, variant.meaning, len(pairs.ids), counted, losses[-1] if losses else None)

    def _evaluate(self, variant: Variant, *, curve: bool) -> Path:
        """Evaluate an editor, with its curve if it can have one; bounds are the same for all, and measured once."""
        out, model = self.out / "evaluations" / variant.name, self.out / "runs" / variant.name / "editor"
        parsed = self.parsed
        data = ["--pairs", parsed.pairs] if parsed.pairs else []
        curves = ["--curve", "--curve-samples", str(2 * parsed.curve_samples)] if curve else []
        command = [
            *_ip2p("evaluate"), "--model", str(model), *data, "--scenes", str(parsed.scenes),
            "--methods", "editor,bound,copy" if variant.name == ALL else "editor", "--quick", *curves,
            *(["--clip", parsed.clip] if parsed.clip else []), "--output", str(out),
        ]  # fmt: skip
        trained = (self.out / "steps" / f"train-{variant.name}.json").read_text()
        key = {"command": command, "trained": trained}
        self._once(f"evaluate-{variant.name}", key, lambda: self._program(command))
        return out

    def _once(self, name: str, key: dict[str, Any], work: Callable[[], None]) -> None:
        """Do a step unless it is done with the same key; the work resumes by itself where it was killed."""
        file, mark = self.out / "steps" / f"{name}.json", fingerprint(key)
        if file.exists() and json.loads(file.read_text()).get("key") == mark:
            return
        say(f"== {name}")
        work()
        file.parent.mkdir(exist_ok=True)
        atomic_write(file, (json.dumps({"key": mark}) + "\n").encode())

    def _program(self, command: list[str]) -> None:
        if status := self.run(command):
            if status in (130, -2):
                raise KeyboardInterrupt
            raise TrainingError(
                f"`{' '.join(command)}` ended with {status}", "Look at its lines above, and run this again"
            )


def _ip2p(*words: str) -> list[str]:
    return [str(Path(sys.executable).with_name("ip2p")), *words]


def from_anywhere(name: str) -> str:
    """Return a path that is there as one that holds wherever a program runs; other names, as of the hub, stay."""
    stays = name in (*BUNDLED_NAMES, NO_CLIP) or not Path(name).exists()
    return name if stays else str(Path(name).resolve())


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--build", type=Path, default=Path("data/storybook"), help="folder of a build (default: %(default)s)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/ablation"), help="folder to write (default: %(default)s)"
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="minutes of each training (default: 10)")
    parser.add_argument("--updates", type=int, help="updates of each training, in place of minutes")
    parser.add_argument("--only", type=lambda text: text.split(","), help="some editors, separated by commas")
    parser.add_argument("--base", type=from_anywhere, help="base model (default: the one that drew the pairs)")
    parser.add_argument("--config", type=from_anywhere, help="config of training (default: as suits the base)")
    parser.add_argument("--thresholds", type=Path, help="calibration.yaml of your own labels, for storybook's judge")
    parser.add_argument("--precision", type=float, default=0.95, help="precision to calibrate for (default: 0.95)")
    parser.add_argument("--scenes", type=int, default=200, help="samples to evaluate on (default: 200)")
    parser.add_argument("--pairs", type=from_anywhere, help="triplets to evaluate on, in place of storybook's scenes")
    parser.add_argument("--curve-samples", type=int, default=50, help="samples of the curves (default: 50)")
    parser.add_argument("--clip", type=from_anywhere, help="CLIP that measures, see `ip2p evaluate --help`")
    parser.add_argument("--seed", type=int, default=0, help="seed of every training (default: 0)")
    parser.add_argument("settings", nargs="*", metavar="key=value", help="settings of every training")
    parsed = parser.parse_intermixed_args(arguments)
    for name in ("build", "out", "thresholds"):  # programs run in the repository's root
        if path := getattr(parsed, name):
            setattr(parsed, name, path.resolve())
    if parsed.updates is not None and parsed.updates < 1 or not parsed.minutes > 0:
        parser.error("--updates and --minutes are above 0")
    return parsed


def main(
    arguments: Sequence[str] | None = None,
    run: Run = lambda command: subprocess.run(command, cwd=ROOT, check=False).returncode,
) -> int:
    """Run the command line."""
    parsed = parse(arguments)
    try:
        return run_program(lambda: Ablation(parsed, run).make())
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
