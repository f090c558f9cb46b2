"""Export a fine-tuned editor as storybook-editor: `python train/storybook/editor.py runs/editor/editor`.

It writes fp16 weights into ip2p/bundled/editor, with a card measured on held-out scenes. Of several folders the
mean of their weights is exported (arXiv 2203.05482): runs/a/editor runs/b/best --shares 0.6 0.4. Settings that the
editor is to have by itself, such as `--set keep_unchanged=true` or `--set text_scale=3`, go into its ip2p.json. Where a
run went on from the bundled editor, the card has the commands and the totals of both.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from ip2p.editing.editor import Editor
from ip2p.errors import ConfigError, run_program
from ip2p.evaluation.changes import UNMEASURED, Matrix, Moved, moved_attributes
from ip2p.evaluation.draw import BATCH_SIZE
from ip2p.evaluation.measures import MEASURES, Measurer
from ip2p.evaluation.methods import Extent, make_methods
from ip2p.evaluation.results import Result
from ip2p.evaluation.samples import storybook_samples
from ip2p.measuring.tables import markdown_table
from ip2p.models.backbone import Backbone, load_backbone, save_backbone
from ip2p.models.bundled import BUNDLED, RECORD_FILE, bundled_path
from ip2p.models.vocabulary import Vocabulary
from ip2p.settings import SETTINGS_FILE, EditSettings, require_known
from ip2p.storybook.judge import Judge
from ip2p.storybook.language import vocabulary
from ip2p.storybook.scene import ATTRIBUTES
from ip2p.train.storybook.bundle import LIMITS, ModelDescription, card, record, require_replaceable
from ip2p.train.storybook.lineage import (
    EDITOR_NAME,
    add_progress,
    distinct_runs,
    earlier_record,
    export_command,
    read_state,
    run_id,
    runs_so_far,
    training_command,
)

BASE_NAME = "storybook-base"
EDITOR = ModelDescription(
    f"{EDITOR_NAME}: pictures and instructions to edited pictures",
    "Edits a picture as an English instruction says (InstructPix2Pix, arXiv 2211.09800). Fine-tuned from\n"
    f"{BASE_NAME}, with its autoencoder.",
    "diffusers",
    "image-to-image",
)
EXAMPLES = (
    "add a cow", "make it winter", "make it night", "make it a watercolor", "turn the barn into a castle",
    "remove the fox", "make the walls red", "make the roof blue", "make it rain", "add a rainbow",
    "move it to the beach",
)  # fmt: skip
"""Examples of what the editor can do; its vocabulary lists those of which its training had all words."""
MEASURED = ("iou", "accuracy", "nearer", "kept", "success", "preservation", "product")
"""Measures of the card, by their names in `ip2p.evaluation.measures.MEASURES`."""
EVALUATION_SEED = 2024
"""Seed of the held-out scenes, and of all noise; that of `ip2p evaluate` unless it is given another."""
MOVED = (
    "How often the judge reads a different value of an attribute that an edit should not change, in per cent;\n"
    "in brackets, how often it does so for the exact targets. Beside each kind is its number of edits"
)
EDITOR_LIMITS = f"{LIMITS}\nNot measured: " + "; ".join(f"{name} ({why})" for name, why in UNMEASURED.items()) + "."
DATA_COMMANDS = (
    "python data_gen/pipeline.py",
    "python train/storybook/phrasings.py data/storybook/packed --out data/phrased",
)
"""Commands that make the pairs of a run, as the card has them unless others are given."""
TRAINED = ("unet", "text_encoder")


def mean_weights(backbones: Sequence[Backbone], shares: Sequence[float]) -> Backbone:
    """Return the first model with the mean of all weights that fine-tuning changes.

    Args:
        backbones: models of one architecture, in fp32.
        shares: share of each in the mean, of which the sum is 1.

    Raises:
        ConfigError: the models differ in more than these weights.
    """
    for other in backbones[1:]:
        _require_alike(backbones[0], other)
    for name in TRAINED:
        networks: list[nn.Module] = [getattr(each, name) for each in backbones]
        states = [network.state_dict() for network in networks]
        mean = {
            key: sum((share * state[key] for share, state in zip(shares, states, strict=True)), torch.zeros_like(first))
            if first.is_floating_point() else first
            for key, first in states[0].items()
        }  # fmt: skip
        networks[0].load_state_dict(mean)
    return backbones[0]


def _require_alike(first: Backbone, other: Backbone) -> None:
    """Raise ConfigError if two editors differ in what a mean of their trained weights takes from the first."""
    schedulers = [  # without the version of diffusers that wrote it
        {name: value for name, value in each.scheduler.config.items() if name != "_diffusers_version"}
        for each in (first, other)
    ]
    different = ["scheduler"] if schedulers[0] != schedulers[1] else []
    for name in ("vae", *TRAINED):
        weights, others = (getattr(each, name).state_dict() for each in (first, other))
        if {key: each.shape for key, each in weights.items()} != {key: each.shape for key, each in others.items()}:
            different.append(name)
        elif name == "vae" and not all(torch.equal(each.half(), others[key].half()) for key, each in weights.items()):
            different.append(name)
    if different:
        raise ConfigError(
            f"the {different[0]} of {first.name} and {other.name} is not the same",
            "Take the mean of editors that were fine-tuned from one model",
        )


class Measured(NamedTuple):
    """Measurements of an editor on held-out scenes.

    Attributes:
        editor: figures of its edits by their titles, in per cent.
        bound: figures of the exact targets through its autoencoder.
        moved: what its edits changed besides, by kind of edit.
    """

    editor: dict[str, float]
    bound: dict[str, float]
    moved: Matrix


def measure_editor(backbone: Backbone, judge: Judge, count: int) -> Measured:
    """Measure pixel truth, and what the judge reads, as `ip2p evaluate` does.

    Args:
        backbone: editor.
        judge: judge that reads its pictures.
        count: number of held-out scenes, each with one edit.
    """
    samples = storybook_samples(count, EVALUATION_SEED)
    measurer = Measurer(judge, None)
    batch = measurer.prepare(samples, [sample.load() for sample in samples])
    edits, exact = (
        [
            Result(sample.name, sample.kind, figures=each.figures, read=each.read)
            for sample, each in zip(samples, measurer.measure(batch, method.draw(batch)), strict=True)
        ]
        for method in make_methods(Editor(backbone), None, Extent(("editor", "bound")), batch=BATCH_SIZE)
    )
    return Measured(_means(edits), _means(exact), moved_attributes(samples, edits, exact))


def _means(results: Sequence[Result]) -> dict[str, float]:
    """Return the mean of each measure in MEASURED, in per cent, over the results that have it."""
    found = {name: [each.figures[name] for each in results if name in each.figures] for name in MEASURED}
    return {MEASURES[name].title: 100 * sum(values) / len(values) for name, values in found.items() if values}


def matrix_table(moved: Matrix) -> str:
    """Return a table in Markdown: in per cent, how often an edit moved what it should not; beside exact targets."""
    rows = [
        [f"{kind}, {max(each.edits for each in row.values())}", *(_cell(row.get(name)) for name in ATTRIBUTES)]
        for kind, row in moved.items()
    ]
    return markdown_table(["edits of", *ATTRIBUTES], rows)


def _cell(moved: Moved | None) -> str:
    if moved is None:
        return ""
    return f"{100 * moved.share:.0f}" + (f" ({100 * moved.floor:.0f})" if moved.floor is not None else "")


def known_words(trained: Vocabulary) -> Vocabulary:
    """Return the vocabulary without misspelt words of the training, and with examples of which all words are in it."""
    known = Vocabulary(trained.words & set(vocabulary()))
    return dataclasses.replace(known, examples=tuple(text for text in EXAMPLES if not known.unknown_words(text)))


def settings_text(backbone: Backbone, given: Mapping[str, str]) -> str:
    """Return the content of ip2p.json: the settings that the run chose, those that are given, and the vocabulary.

    Raises:
        ConfigError: a setting is unknown or out of range.
    """
    require_known(EditSettings, given)
    values = backbone.settings.replace(**given).model_dump()
    own = {name: values[name] for name in (*backbone.own_settings, *given)}
    words = known_words(backbone.vocabulary).as_json() if backbone.vocabulary else {}
    return json.dumps(own | words, indent=1) + "\n"


def export(parsed: argparse.Namespace) -> None:
    """Write the editor.

    Raises:
        ConfigError: shares do not fit the folders, these differ in more than a training, a setting is wrong, or
            something else is where the editor is to be.
        ModelError: a folder has no editor.
    """
    folders: list[Path] = parsed.editors
    require_replaceable(parsed.out / "editor", folders)
    shares = parsed.shares or [1 / len(folders)] * len(folders)
    if len(shares) != len(folders) or abs(sum(shares) - 1) > 1e-6:
        raise ConfigError(f"shares {shares} for {len(folders)} editors", "Give one for each, of which the sum is 1")
    if unclear := [word for word in parsed.set if "=" not in word]:
        raise ConfigError(f"--set {unclear[0]!r} sets nothing", "Give NAME=VALUE, such as text_scale=3")
    given = dict(word.split("=", 1) for word in parsed.set)
    backbone = mean_weights([load_backbone(each, want="editor") for each in folders], shares)
    text = settings_text(backbone, given)
    written = {name: value for name, value in json.loads(text).items() if name in EditSettings.model_fields}
    backbone = dataclasses.replace(backbone, own_settings=written)
    reached = [read_state(each) for each in folders]
    states = distinct_runs(reached)
    earlier = earlier_record(bundled_path(EDITOR_NAME), states)
    states = [state for state in states if run_id(state) not in runs_so_far(earlier)]
    total = add_progress(states, earlier)
    figures, tables = {}, {}
    if parsed.measure:
        measured = measure_editor(backbone, Judge.from_pretrained(parsed.out / "judge"), parsed.measure)
        figures = {
            f"On {parsed.measure} held-out scenes, against the exact targets and by the judge (%)": measured.editor,
            "The exact targets through its autoencoder, finished as its edits are (%)": measured.bound,
        }
        tables = {MOVED: matrix_table(measured.moved)}
    options = ["--shares", *map(str, shares)] if len(folders) > 1 else []
    options += ["--set", *parsed.set] if parsed.set else []
    options += ["--measure", str(parsed.measure)]
    commands = [
        *earlier.get("commands", []),
        *parsed.made_by,
        *map(training_command, states),
        export_command(folders, reached, options),
    ]
    extra = {
        "README.md": card(EDITOR, commands, total, figures, f"pairs that {BASE_NAME} drew", tables, EDITOR_LIMITS),
        RECORD_FILE: record(total, figures, commands=commands, runs=[*map(run_id, states)], earlier=earlier),
        SETTINGS_FILE: text,
    }  # fmt: skip
    save_backbone(backbone, parsed.out / "editor", pipeline_class=backbone.pipeline_class, extra=extra)
    print(f"wrote {parsed.out / 'editor'}")


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("editors", nargs="+", type=Path, help="folders of editors that train/finetune.py wrote")
    parser.add_argument("--shares", nargs="+", type=float, help="share of each in the mean (default: equal)")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="sampling settings of its own")
    parser.add_argument(
        "--made-by",
        nargs="*",
        default=DATA_COMMANDS,
        metavar="COMMAND",
        help="commands that made the pairs, for the card",
    )
    parser.add_argument("--out", type=Path, default=BUNDLED, help="folder of all models (default: ip2p/bundled)")
    parser.add_argument("--measure", type=int, default=200, help="held-out scenes to measure on (default: 200)")
    parsed = parser.parse_args()
    return run_program(lambda: export(parsed))


if __name__ == "__main__":
    sys.exit(main())
