"""Evaluate an editor: on storybook, where every edit has its exact target, or on anybody's triplets."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ip2p.editing.editor import Editor
from ip2p.errors import ConfigError, DataError, WriterError
from ip2p.evaluation.asked import ask_judge
from ip2p.evaluation.beside import compare_others, score_phrasings
from ip2p.evaluation.changes import moved_attributes
from ip2p.evaluation.curve import MIN_SAMPLES, curve_chart, leave_out_failed, trade_offs
from ip2p.evaluation.draw import plan_work, run_plan
from ip2p.evaluation.measures import Measurer
from ip2p.evaluation.methods import BOUND, EDITOR, Extent, Method, make_methods
from ip2p.evaluation.page import render_evaluation
from ip2p.evaluation.report import (
    CURVE_FILE,
    PAGE_FILE,
    PARTS,
    REPORT_FILE,
    Evaluation,
    count_undefined,
    lpips_notes,
    report_methods,
    unmeasured_probes,
)  # fmt: skip
from ip2p.evaluation.results import Result, ResultFolder
from ip2p.evaluation.samples import Sample
from ip2p.evaluation.scores import score_methods
from ip2p.measuring.clip import ClipScorer
from ip2p.measuring.dino import Dino
from ip2p.measuring.vision_judge import VisionJudge
from ip2p.models.backbone import Backbone
from ip2p.ownership import require_own, sole_writer
from ip2p.shards import atomic_write, sweep_temporaries
from ip2p.storybook.judge import Judge

RUN_FILE = "run.json"
OUTPUTS = (RUN_FILE, REPORT_FILE, PAGE_FILE, CURVE_FILE, PARTS)
IDENTITY = ("editor", "weights", "data", "seed")
"""Facts of an evaluation; where one differs, its results would replace those of another evaluation."""
logger = logging.getLogger(__name__)


def evaluate(
    editor: Editor,
    base: Backbone | None,
    samples: Sequence[Sample],
    *,
    judge: Judge | None,
    clip: ClipScorer | None,
    dino: Dino | None = None,
    extent: Extent,
    seed: int,
    out: Path,
    about: Mapping[str, Any],
    marks: Mapping[str, Any],
    notes: Sequence[str] = (),
    vision: VisionJudge | None = None,
    say: Callable[[str], None] = logger.info,
) -> Evaluation:
    """Evaluate an editor, or go on, and write evaluation.json, evaluation.html and, with a curve, curve.svg.

    Results are written batch by batch, so that a run that was killed goes on and ends with the same bytes.

    Args:
        editor: editor to evaluate.
        base: text-to-image model of the baselines; None leaves them out.
        samples: samples of the data.
        judge: judge of storybook scenes; None for other pictures.
        clip: CLIP that measures; None leaves its measures out.
        dino: DINO of the measures of others; None leaves these out.
        extent: which methods are measured, and on how much.
        seed: seed of the bootstrap.
        out: folder to write to.
        about: what the report says of models and data; it has "editor", "data" and "seed".
        marks: what results depend on besides: hashes of models and the like.
        notes: what a reader has to know.
        vision: vision model that is asked about the pictures of the tables; one that cannot be asked is told in a
            note; None asks nobody.
        say: function that prints a line.

    Raises:
        DataError: the folder has files of these names that no evaluation made, or those of another one.
        BusyError: another run is writing to it.
    """
    require_folder(out, about)
    methods = make_methods(editor, base, extent, batch=16)
    plan = plan_work(methods, samples, marks)
    out.mkdir(parents=True, exist_ok=True)
    with sole_writer(out):
        for place in (out, *(out / PARTS).glob("*")):
            sweep_temporaries(place)
        atomic_write(out / RUN_FILE, (json.dumps(dict(about), indent=1) + "\n").encode())  # says whose the others are
        folder = ResultFolder(out / PARTS)
        unets = [each.unet for each in (editor.backbone, base) if each is not None]
        run_plan(plan, Measurer(judge, clip, dino), folder, unets=unets, say=say)
        batches: dict[str, list[int]] = {}
        for work in plan:
            batches.setdefault(work.method.slug, []).append(work.number)
        results = {each.name: folder.read(each.slug, batches.get(each.slug, [])) for each in methods}
        if vision:
            try:
                asked = ask_judge(samples, {each.name: results[each.name] for each in methods if each.tabled}, vision)
                results, notes = results | asked.results, [*notes, asked.note]
            except (ConfigError, WriterError) as error:  # what is drawn and measured by then is worth a report
                notes = [*notes, f"The marks of {vision.server.model} are not among the measures: {error}"]
        found = summarize(methods, samples, results, about=about, seed=seed, notes=notes)
        _write(found, samples, {each.name: results[each.name] for each in methods if each.tabled}, out)
    return found


def require_folder(out: Path, about: Mapping[str, Any]) -> None:
    """Check that an evaluation may write to a folder, before models are loaded.

    Args:
        out: folder to write to, which need not exist.
        about: what is known of the evaluation by then, see `evaluate`.

    Raises:
        DataError: it has files of these names that no evaluation made, or the results of another evaluation.
    """
    require_own(out, OUTPUTS, mark=RUN_FILE, keys=("editor", "data", "seed"))
    recorded = read_json(out / RUN_FILE)
    for name in (each for each in IDENTITY if each in about and each in recorded):
        found, wanted = str(recorded[name]), str(about[name])
        if Path(found).resolve() != Path(wanted).resolve():  # most are paths, which may be written in several ways
            what = f"another evaluation has its results in {out}: {name} {found}, not {wanted}"
            raise DataError(what, "Give another out", arguments=("out",))


def read_json(path: Path) -> dict[str, Any]:
    """Read an object from a JSON file; an empty one if it is not there, or is none."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def summarize(
    methods: Sequence[Method],
    samples: Sequence[Sample],
    results: Mapping[str, Sequence[Result]],
    *,
    about: Mapping[str, Any],
    seed: int,
    notes: Sequence[str] = (),
) -> Evaluation:
    """Summarize results: means with intervals, curves, what moved unasked, what failed.

    Args:
        methods: methods in the order of the tables.
        samples: samples.
        results: results by method.
        about, seed, notes: see `evaluate`.
    """
    tabled = {each.name: results[each.name] for each in methods if each.tabled}
    points: dict[str, dict[str, Sequence[Result]]] = {}
    editor_first = sorted((each for each in methods if each.point), key=lambda each: each.group != "editor")
    for each in editor_first:
        if each.point and any(not method.tabled for method in methods):
            points.setdefault(each.point.curve, {})[each.point.setting] = results[each.name]
    whole, left_out = leave_out_failed(points)
    curves = trade_offs(whole, seed) if whole else []
    if points and not curves:
        left_out.append(f"There is no curve: fewer than {MIN_SAMPLES} samples have both measures at every point.")
    reports, faults = report_methods(methods, results)
    scores = score_methods(tabled, seed)
    return Evaluation(
        about=dict(about), samples={each.name: each.kind for each in samples}, methods=reports,
        scores=scores, curves=curves,
        differences=compare_others({name: each.figures for name, each in reports.items()}),
        phrasings=score_phrasings(samples, results.get(EDITOR, ()), seed),
        moved=moved_attributes(samples, results.get(EDITOR, ()), results.get(BOUND)),
        unmeasured=unmeasured_probes(any(each.case for each in samples)),
        undefined=count_undefined(samples, results), faults=faults, notes=[*notes, *left_out, *lpips_notes(scores)],
    )  # fmt: skip


def describe_versions() -> str:
    """Describe the versions that figures depend on."""
    return ", ".join(f"{name} {version(name)}" for name in ("ip2p", "torch", "diffusers", "transformers", "pillow"))


def _write(
    evaluation: Evaluation, samples: Sequence[Sample], results: Mapping[str, Sequence[Result]], out: Path
) -> None:
    """Write the report, the page and the curve."""
    atomic_write(out / PAGE_FILE, render_evaluation(evaluation, samples, results).encode())
    if evaluation.curves:
        atomic_write(out / CURVE_FILE, curve_chart(evaluation.curves).__html__().encode())
    elif read_json(out / REPORT_FILE).get("curves"):
        (out / CURVE_FILE).unlink(missing_ok=True)  # of that earlier report
    atomic_write(out / REPORT_FILE, (evaluation.model_dump_json(indent=1) + "\n").encode())
