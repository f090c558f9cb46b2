"""Measure edits in sequence with and without kept pixels: `python bench/sequence.py [--scenes 16] [--edits 5]`.

Scenes are edited several times, each time in another attribute, and every edit has an exact target. PSNR is measured
where no edit so far should change anything, and the judge reads all attributes. Where something was removed, the share
of the pixels is counted that are nearer to what is behind it than to it, at once and after the edits that followed.
"""

import argparse
import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor

from ip2p import Editor
from ip2p.editing.sequence import edit_in_sequence
from ip2p.measuring.pixel_truth import pixel_truth
from ip2p.measuring.tables import markdown_table
from ip2p.pictures.contact_sheet import contact_sheet
from ip2p.pictures.tensors import to_tensor
from ip2p.pictures.write import save_picture
from ip2p.seeding import derive_seed
from ip2p.storybook.edits import apply, edit_to, possible_edits
from ip2p.storybook.judge import Judge, attribute_target
from ip2p.storybook.language import instruction
from ip2p.storybook.render import render
from ip2p.storybook.scene import Edit, Scene, sample_scene

LOCAL_ATTRIBUTES = ("building", "color", "animal", "sky")
"""Attributes whose edits leave most of a picture unchanged."""
SEED = 2025


class Story(NamedTuple):
    """Edits in sequence, with their instructions, and the scenes before the first edit and after each one."""

    edits: list[Edit]
    instructions: list[str]
    scenes: list[Scene]


class Removed(NamedTuple):
    """Traces of something that was removed: shares of its pixels that are nearer to what is behind it.

    Attributes:
        at_once: the share after that edit.
        later: the share after the last edit before the next one of the same attribute; None if no edit came between.
    """

    at_once: float
    later: float | None


def make_story(number: int, count: int) -> Story:
    """Make a sequence of edits that rotates through the local attributes.

    Args:
        number: number of the story, from which its random draws follow.
        count: number of edits.
    """
    rng = random.Random(derive_seed(SEED, "turns", str(number)))
    scenes: list[Scene] = [sample_scene(rng)]
    edits: list[Edit] = []
    instructions: list[str] = []
    order = rng.sample(LOCAL_ATTRIBUTES, len(LOCAL_ATTRIBUTES))
    for place in range(count):
        possible = possible_edits(scenes[-1].attributes)
        edit = rng.choice([edit for edit in possible if edit.attribute == order[place % len(order)]])
        edits.append(edit)
        instructions.append(instruction(edit, scenes[-1], rng))
        scenes.append(apply(scenes[-1], edit))
    return Story(edits, instructions, scenes)


def unchanged_psnr(picture: Image.Image, renders: Sequence[Image.Image]) -> float:
    """Return the PSNR in dB, at most 60, over the pixels that are equal in all renders.

    Args:
        picture: picture to measure.
        renders: exact pictures before and after each edit.
    """
    stack = np.stack([np.asarray(each, dtype=float) for each in renders])
    same = (np.ptp(stack, axis=0) <= 2).all(-1)
    mse = float(((np.asarray(picture, dtype=float) - stack[0])[same] ** 2).mean())
    return min(60.0, 10 * float(np.log10(255**2 / max(mse, 1e-9))))


def removed_pixels(story: Story, made: Sequence[Image.Image]) -> list[Removed]:
    """Measure each removal of a story where it changes the exact pictures.

    Args:
        story: edits in sequence.
        made: picture after each edit.
    """
    found = []
    for number, edit in enumerate(story.edits):
        if not edit.kind.startswith("remove"):
            continue
        thing = story.scenes[number].attributes[edit.attribute]
        added = [later.attribute == edit.attribute for later in story.edits[number + 1 :]] + [True]
        last = number + added.index(True)
        at_once, later = (_share_removed(edit, thing, story.scenes[turn + 1], made[turn]) for turn in (number, last))
        found.append(Removed(at_once, later if last > number else None))
    return found


def _share_removed(edit: Edit, thing: str, scene: Scene, picture: Image.Image) -> float:
    """Return the share of the pixels of a thing that are nearer to the scene without it than to the scene with it."""
    there = apply(scene, edit_to(scene, edit.attribute, thing))
    return float(pixel_truth(*(_unit(each) for each in (render(there), render(scene), picture))).mean_nearer)


def _unit(picture: Image.Image) -> Tensor:
    return (to_tensor([picture]) + 1) / 2


def main() -> None:
    """Run the command line: print a table and write a contact sheet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=16)
    parser.add_argument("--edits", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("runs/sequence"))
    parsed = parser.parse_args()

    editor, judge = Editor.from_pretrained(), Judge.from_pretrained("storybook-judge")
    figures: dict[tuple[bool, int], list[tuple[float, float]]] = {}
    removed: dict[bool, list[Removed]] = {False: [], True: []}
    sheet: list[list[Image.Image]] = []
    for number in range(parsed.scenes):
        story = make_story(number, parsed.edits)
        renders = [render(scene) for scene in story.scenes]
        for keep in (False, True):
            made: list[Image.Image] = []
            edit_in_sequence(
                editor, renders[0], story.instructions, seeds=number, keep_unchanged=keep,
                on_edit=lambda _, pictures, made=made: made.append(pictures[0]),
            )  # fmt: skip
            read = judge.read(to_tensor(made)).attributes
            for done, scene in enumerate(story.scenes[1:], 1):
                wanted = zip(read.values(), attribute_target(scene), strict=True)
                right = float(np.mean([int(values[done - 1]) == value for values, value in wanted]))
                figures.setdefault((keep, done), []).append(
                    (unchanged_psnr(made[done - 1], renders[: done + 1]), right)
                )
            removed[keep] += removed_pixels(story, made)
            sheet.append([renders[0], *made])
        sheet.append(renders)
    rows = []
    for (keep, done), measured in sorted(figures.items(), key=lambda item: (item[0][1], item[0][0])):
        decibels, right = np.mean(measured, axis=0)
        rows.append((f"{done}", "yes" if keep else "no", f"{decibels:.1f}", f"{100 * right:.1f} %"))
    print(markdown_table(["edits", "kept", "dB where nothing was to change", "attributes as asked"], rows, names=2))
    for keep, each in removed.items():
        at_once, later = [one.at_once for one in each], [one.later for one in each if one.later is not None]
        if each:
            print(
                f"{len(at_once)} things removed, {'unchanged pixels kept' if keep else 'nothing kept'}: "
                f"{100 * np.mean(at_once):.1f} % of their pixels are nearer to what is behind"
                + (f", and {100 * np.mean(later):.1f} % of those of {len(later)} after further edits" if later else "")
            )
    labels = ["nothing kept", "kept", "exact targets"] * parsed.scenes
    save_picture(contact_sheet(sheet, labels), parsed.out / "sequence.png", {"seed": SEED})


if __name__ == "__main__":
    main()
