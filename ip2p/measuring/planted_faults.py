"""The judge of judges: faults planted into exact targets, and how often a measure tells them from the exact target.

A measure that cannot tell a known fault says nothing where it scores an editor high. What is planted, into a storybook
edit whose exact target is known:

nothing done      the input
half done         input and exact target, half and half
wrong value       the edited attribute has a third value
extra change      another attribute has changed, too
another layout    all that was asked, in another composition
shift             the exact target, 2 px to the right
colour drift      the exact target, warmer by 6 % in red and colder by 6 % in blue
mush              the exact target at an eighth of its resolution
noise             the exact target with Gaussian noise of 12 of 255 levels
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageChops

from ip2p.measuring.agreement import paired_auc
from ip2p.measuring.intervals import Interval
from ip2p.seeding import derive_seed
from ip2p.storybook.edits import Case, apply, evaluation_cases, possible_edits
from ip2p.storybook.render import render
from ip2p.storybook.scene import sample_scene

SHIFT, DRIFT, SHRINK, NOISE = 2, 0.06, 8, 12.0
EXACT = "exact target"


class Trial(NamedTuple):
    """A picture to be measured.

    Attributes:
        source: picture before the edit.
        target: exact target.
        edited: exact target, or a spoiled one.
        case: scene and edit, with its instruction and captions.
    """

    source: Image.Image
    target: Image.Image
    edited: Image.Image
    case: Case


Measure = Callable[[Sequence[Trial]], Sequence[float]]
"""Function that scores pictures, higher for better ones; NaN for those that it cannot score."""
Plant = Callable[[Trial, random.Random], Image.Image]


def plant_faults(count: int, seed: int) -> dict[str, list[Trial]]:
    """Plant every fault into the targets of held-out edits; row k of each depends on the seed and k alone.

    Args:
        count: number of edits.
        seed: seed of the scenes and of the faults.

    Returns:
        Trials by the name of the fault, the exact targets first; row k of each has the same edit.
    """
    exact = [
        Trial(render(case.scene), target := render(case.target), target, case) for case in evaluation_cases(count, seed)
    ]
    planted = {EXACT: exact}
    for name, plant in FAULTS.items():
        rngs = (random.Random(derive_seed(seed, name, str(number))) for number in range(count))
        planted[name] = [each._replace(edited=plant(each, rng)) for each, rng in zip(exact, rngs, strict=True)]
    return planted


def judge_measure(measure: Measure, planted: Mapping[str, Sequence[Trial]], *, seed: int) -> dict[str, Interval]:
    """Compute the AUC of a measure at telling each fault from the exact target.

    Args:
        measure: measure to be judged.
        planted: trials that `plant_faults` made.
        seed: seed of the intervals.

    Returns:
        AUC by the name of the fault: 1 if every exact target scores above every spoiled one, 0.5 if the measure is
        blind to the fault, less if it likes the fault better.
    """
    scores = {name: list(measure(trials)) for name, trials in planted.items()}
    return {name: paired_auc(scores[EXACT], each, seed=seed) for name, each in scores.items() if name != EXACT}


def score_each(score: Callable[[Image.Image, Image.Image, Image.Image, str], float]) -> Measure:
    """Make a measure of a function of source, target, edited picture and instruction."""
    return lambda trials: [score(each.source, each.target, each.edited, each.case.instruction) for each in trials]


def _wrong_value(trial: Trial, rng: random.Random) -> Image.Image:
    """Another value of the edited attribute; what has only two values keeps its old one."""
    case = trial.case
    others = [
        edit for edit in possible_edits(case.scene.attributes)
        if edit.attribute == case.edit.attribute and edit.value != case.edit.value
    ]  # fmt: skip
    return render(apply(case.scene, rng.choice(others))) if others else trial.source


def _extra_change(trial: Trial, rng: random.Random) -> Image.Image:
    """One more edit that shows: of another attribute than the one that was asked for."""
    target = trial.case.target
    others = [edit for edit in possible_edits(target.attributes) if edit.attribute != trial.case.edit.attribute]
    rng.shuffle(others)
    pictures = (render(apply(target, edit)) for edit in others)
    return next((each for each in pictures if each != trial.target), trial.target)


def _another_layout(trial: Trial, rng: random.Random) -> Image.Image:
    target = trial.case.target
    return render(replace(target, layout=sample_scene(rng).layout))


def _shift(trial: Trial, _rng: random.Random) -> Image.Image:
    """Move the target to the right; what comes in from the left repeats its edge."""
    moved = ImageChops.offset(trial.target, SHIFT, 0)
    moved.paste(trial.target.crop((0, 0, 1, trial.target.height)).resize((SHIFT, trial.target.height)), (0, 0))
    return moved


def _drift(trial: Trial, _rng: random.Random) -> Image.Image:
    pixels = np.asarray(trial.target, np.float64) * (1 + DRIFT, 1, 1 - DRIFT)
    return Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8))


def _mush(trial: Trial, _rng: random.Random) -> Image.Image:
    size = trial.target.size
    small = trial.target.resize((size[0] // SHRINK, size[1] // SHRINK), Image.Resampling.BOX)
    return small.resize(size, Image.Resampling.BILINEAR)


def _add_noise(trial: Trial, rng: random.Random) -> Image.Image:
    pixels = np.asarray(trial.target, np.float64)
    pixels = pixels + np.random.default_rng(rng.getrandbits(64)).normal(0, NOISE, pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8))


FAULTS: dict[str, Plant] = {
    "nothing done": lambda trial, _rng: trial.source,
    "half done": lambda trial, _rng: Image.blend(trial.source, trial.target, 0.5),
    "wrong value": _wrong_value,
    "extra change": _extra_change,
    "another layout": _another_layout,
    "shift": _shift,
    "colour drift": _drift,
    "mush": _mush,
    "noise": _add_noise,
}
"""Faults by name."""
