"""Inputs of `ip2p evaluate`, loaded by their names: models, data, judge and CLIP."""

import dataclasses
import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Unpack

import yaml
from torch import nn

from ip2p import measuring, storybook
from ip2p.editing.editor import Editor
from ip2p.errors import ConfigError
from ip2p.evaluation import measures, methods
from ip2p.evaluation.evaluate import describe_versions, evaluate, read_json, require_folder
from ip2p.evaluation.measures import describe_clip
from ip2p.evaluation.methods import Extent, require_curve
from ip2p.evaluation.report import Evaluation
from ip2p.evaluation.samples import Sample, free_samples, storybook_samples, triplet_samples
from ip2p.measuring.clip import ClipScorer
from ip2p.measuring.dino import Dino
from ip2p.measuring.published import missing_for_lpips
from ip2p.measuring.vision_judge import VisionJudge
from ip2p.models.backbone import Backbone, LoadingOptions
from ip2p.models.bundled import BUNDLED_NAMES
from ip2p.models.hashes import fingerprint_model, hash_weights
from ip2p.models.inference import load_for_inference
from ip2p.remote.server import ServerSettings
from ip2p.settings import SETTINGS_FILE
from ip2p.shards import fingerprint
from ip2p.storybook.judge import Judge

BASELINES = {"sdedit", "p2p", "text"}
"""Methods that the base model draws."""
JUDGE, STORYBOOK_CLIPS = "storybook-judge", ("storybook-clip-b", "storybook-clip-a")
"""The judge, and the CLIPs of the storybook world, the one that filtered no pairs first."""
FILTER_CLIP = "storybook-clip-a"
"""The CLIP that filtered the pairs of storybook's editors."""
PHOTO_CLIP = "openai/clip-vit-large-patch14"
MARKED = ("device", "versions", "measures", "judge_weights", "clip_weights", "dino_weights")
"""Facts of a report that all its figures depend on."""
NONE = "none"
SCENES = 200
CARD = "README.md"
SETTINGS_BLOCK = re.compile(r"^```yaml\s*^(.*?)^```", re.MULTILINE | re.DOTALL)
"""Settings of a training in a card."""
HELD_OUT, TESTS = "made for evaluation", "test split"
ALL_ROWS, LEARNT_ROWS = "all rows, without a test split", "all rows, among them training pairs"
"""Part of the data that the samples are from."""


class Data(NamedTuple):
    """Data that an editor is measured on.

    Attributes:
        name: name of the data in the report.
        samples: samples.
        is_storybook: whether they are scenes of the bundled world.
        split: which part of the data they are.
        notes: what a reader has to know of them.
    """

    name: str
    samples: list[Sample]
    is_storybook: bool
    split: str = HELD_OUT
    notes: tuple[str, ...] = ()


def load_storybook(scenes: int, seed: int, *, free: bool) -> Data:
    """Load held-out scenes, or those of the sixty free instructions."""
    if free:
        return Data("storybook, free instructions", free_samples(seed), True)
    return Data("storybook, held-out scenes", storybook_samples(scenes, seed), True)


def load_triplets(source: str, seed: int, *, limit: int | None = None, learnt: Sequence[str] = ()) -> Data:
    """Load the test split of anybody's triplets, or all of them if they have none; see `triplet_samples`.

    Args:
        source: file, folder, or name of a data set on the hub.
        seed: seed of all noise.
        limit: number of samples; None for all.
        learnt: data sets that the editor was trained on.
    """
    samples, are_tests = triplet_samples(source, seed, limit=limit)
    if are_tests:
        return Data(source, samples, False, TESTS)
    if not any(_overlap(source, each) for each in learnt):
        return Data(source, samples, False, ALL_ROWS)
    note = f"{source} has no test split: these figures are of rows that the editor was trained on, too."
    return Data(source, samples, False, LEARNT_ROWS, (note,))


def _overlap(first: str, second: str) -> bool:
    """Whether two data sets are the same, or one is a folder of the other, as the packed pairs of a build are."""
    one, other = Path(first).resolve(), Path(second).resolve()
    return one.is_relative_to(other) or other.is_relative_to(one)


def choose_data(
    editor_name: str, pairs: str | None, scenes: int | None, seed: int, *, free: bool, say: Callable[[str], None]
) -> Data:
    """Choose what an editor is measured on: triplets that are given, those that its card names, or held-out scenes.

    Storybook's editors are measured on held-out scenes, which have exact targets, unlike the pairs that they learnt.

    Args:
        editor_name: name of the editor.
        pairs: triplets; None if none are given.
        scenes: number of samples; None for 200 scenes, or all triplets.
        seed: seed of the scenes and of all noise.
        free: whether to take the scenes of the sixty free instructions.
        say: function that prints a line.

    Raises:
        ConfigError: free instructions are asked for with triplets or a number.
        DataError: the triplets cannot be read.
    """
    if free and (pairs is not None or scenes is not None):
        other = "scenes" if pairs is None else "pairs"
        fix = "Leave out one of them: free has sixty scenes of its own"
        raise ConfigError(f"free and {other} exclude each other", fix, arguments=("free", other))
    learnt = named_data(editor_name)
    if pairs is not None:
        return load_triplets(pairs, seed, limit=scenes, learnt=learnt)
    if scenes is not None or free or "vocabulary" in read_json(Path(editor_name) / SETTINGS_FILE):
        return load_storybook(scenes or SCENES, seed, free=free)
    here = [name for name in learnt if Path(name).exists()]
    data = load_triplets(here[0], seed, learnt=learnt) if here else load_storybook(SCENES, seed, free=False)
    if here:
        say(f"measured on {here[0]}, {data.split}: the card of {editor_name} names it; --scenes takes storybook's")
    others = tuple(
        f"The card of {editor_name} names the data set {name}, too, which is not measured; --pairs {name} asks for it."
        for name in here[1:]
    )
    told = others + tuple(
        f"The card of {editor_name} names the data set {name}, which is not at hand and not measured; "
        f"--pairs {name} asks for it."
        for name in learnt
        if name not in here
    )
    return data._replace(notes=data.notes + told)


def named_data(editor_name: str) -> list[str]:
    """The data sets that the card of an editor in a folder names: paths, and names on the hub."""
    card = Path(editor_name) / CARD
    if editor_name in BUNDLED_NAMES or not card.is_file():
        return []
    for block in SETTINGS_BLOCK.findall(card.read_text(errors="replace")):
        try:
            settings = yaml.safe_load(block)
        except yaml.YAMLError:
            continue
        if isinstance(settings, dict) and (named := settings.get("dataset")):
            paths = [
                each.get("path") if isinstance(each, dict) else each
                for each in (named if isinstance(named, list) else [named])
            ]
            return [each for each in paths if isinstance(each, str)]
    return []


def evaluate_model(
    editor_name: str,
    base_name: str,
    data: Data,
    *,
    seed: int,
    out: Path,
    extent: Extent,
    clip_name: str | None = None,
    dino_name: str | None = None,
    original_range: bool = False,
    original_resize: bool = False,
    keep_unchanged: bool | None = None,
    asked: ServerSettings | None = None,
    say: Callable[[str], None],
    **loading: Unpack[LoadingOptions],
) -> Evaluation:
    """Load models by name, and evaluate an editor.

    Args:
        editor_name: bundled name, folder or hub id of an editor.
        base_name: bundled name, folder or hub id of the baselines' text-to-image model.
        data: what it is measured on.
        seed: seed of the scenes and of all noise.
        out: folder to write to.
        extent: which methods are measured, and on how much.
        clip_name: bundled name, folder or hub id of the CLIP; "none" for no CLIP; None chooses by the data.
        dino_name: folder or hub id of the DINO of the measures of others; None leaves these out.
        original_range, original_resize: see `ip2p.measuring.clip.Preprocessing`.
        keep_unchanged: whether the editor keeps pixels that it did not change; None takes its own setting.
        asked: server of a vision model that judges the pictures of the tables; None asks nobody.
        say: function that prints a line.
        loading: config, weights, allow_pickle and safety_checker of the editor, see LoadingOptions.

    Raises:
        ModelError: a model is missing or of another kind.
        DataError: the folder has files of these names that no evaluation made, or those of another one.
        ConfigError: there is to be a curve, and nothing that it could be of.
        ConfigError, WriterError: the vision model cannot be asked.
    """
    require_folder(out, {"editor": editor_name, "data": data.name, "seed": seed})
    clip_name = clip_name or _choose_clip(data)
    require_curve(extent, data.samples, has_clip=clip_name != NONE)
    vision = VisionJudge(asked, out, say=say) if asked else None
    if vision:
        vision.require_access()
    editor = Editor(load_for_inference(editor_name, want="editor", **loading))
    base = load_for_inference(base_name, want="base") if BASELINES & set(extent.groups) else None
    judge = Judge.from_pretrained(JUDGE) if data.is_storybook else None
    clip = None if clip_name == NONE else ClipScorer.from_pretrained(clip_name)
    if clip:
        clip.preprocessing = clip.preprocessing._replace(original_range=original_range, original_resize=original_resize)
    dino = Dino.from_pretrained(dino_name) if dino_name else None
    backbone = editor.backbone
    if keep_unchanged is not None:
        own = {**backbone.own_settings, "keep_unchanged": keep_unchanged}
        backbone = editor.backbone = dataclasses.replace(backbone, own_settings=own)
    about = {
        "editor": editor_name, "weights": backbone.weights or "its own", "base": base_name if base else "none",
        "unchanged pixels": "kept" if backbone.settings.model_dump()["keep_unchanged"] else "as drawn",
        "data": data.name, "split": data.split, "n": len(data.samples), "seed": seed, "quick": extent.quick,
        **describe_clip(clip, clip_name), "dino": dino_name or "none", "judge": JUDGE if judge else "none",
        "asked": asked.model if asked else "none",
        "device": backbone.device.type, "versions": describe_versions(), "measures": _hash_measures(),
        "samples": fingerprint({"samples": [each.describe() for each in data.samples]})[:16],
        "judge_weights": _mark(judge.net if judge else None), "clip_weights": _mark(clip.model if clip else None),
        "dino_weights": _mark(dino.model if dino else None),
    }  # fmt: skip
    marks = {
        "editor": fingerprint_model(editor_name)[:16], "options": {name: str(each) for name, each in loading.items()},
        "base": fingerprint_model(base_name)[:16] if base else "", "lpips": missing_for_lpips(),
        "clip": list(clip.preprocessing) if clip else "",
        **{name: about[name] for name in MARKED},
    }  # fmt: skip
    return evaluate(
        editor, base, data.samples, judge=judge, clip=clip, dino=dino, extent=extent, seed=seed, out=out, about=about,
        marks=marks, notes=[*data.notes, *domain_notes(backbone, data, base), *clip_notes(clip, data)],
        vision=vision, say=say,
    )  # fmt: skip


def _hash_measures() -> str:
    """Hash the code that renders and measures, so that a run does not go on with figures of another definition."""
    digest = hashlib.sha256()
    rooms = (Path(measuring.__file__).parent, Path(storybook.__file__).parent)
    files = [file for room in rooms for file in sorted(room.glob("*.py"))]
    for file in (*files, Path(measures.__file__), Path(methods.__file__)):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def domain_notes(backbone: Backbone, data: Data, base: Backbone | None = None) -> list[str]:
    """Tell a reader that an editor, or the base of the baselines, draws pictures of another world than its own."""
    notes = []
    if data.is_storybook and backbone.vocabulary is None:
        notes.append(
            f"{backbone.name} is no model of the storybook world: these figures say how it edits drawings that it has "
            "never seen. For photographs, give triplets of your own by --pairs."
        )
    if told := _unread(backbone, data, [each.instruction for each in data.samples], "instructions"):
        notes.append(f"{told} These figures say nothing about editors of photographs.")
    if base is not None and data.is_storybook and base.vocabulary is None:
        notes.append(
            f"{base.name}, which draws the baselines, is no model of the storybook world; give another --base."
        )
    captions = [each.edited_caption for each in data.samples if each.has_direction]
    if base is not None and (told := _unread(base, data, captions, "captions")):
        notes.append(
            f"{told} It draws the baselines, which say nothing about those of photographs; give another --base."
        )
    return notes


def _unread(backbone: Backbone, data: Data, texts: Sequence[str], name: str) -> str:
    """Say that a model of the storybook world cannot read most texts of other pictures; empty if it can."""
    words = backbone.vocabulary
    unknown = sum(bool(words and words.unknown_words(each)) for each in texts)
    if data.is_storybook or unknown <= len(texts) / 2:
        return ""
    known = f"{backbone.name} knows the storybook world alone"
    return f"{known}: {unknown} of {len(texts)} {name} have words that it has never read."


def clip_notes(clip: ClipScorer | None, data: Data) -> list[str]:
    """Tell a reader that the CLIP that measures storybook's editors chose what they learnt from."""
    if clip is None or not data.is_storybook:
        return []
    if _mark(clip.model) != _mark(ClipScorer.from_pretrained(FILTER_CLIP).model):  # whatever it is called
        return []
    return [
        f"{FILTER_CLIP} measures, which also filtered the pairs of storybook's editors: its figures may flatter them. "
        "Pixel truth and the judge are not so bound."
    ]


def _choose_clip(data: Data) -> str:
    """The CLIP of the bundled world for its scenes, OpenAI's large one for all else."""
    return next(name for name in STORYBOOK_CLIPS if name in BUNDLED_NAMES) if data.is_storybook else PHOTO_CLIP


def _mark(network: nn.Module | None) -> str:
    """Hash the weights of a judge, CLIP or DINO, wherever it was loaded from; an empty string without one."""
    return hash_weights(network)[:16] if network is not None else ""
