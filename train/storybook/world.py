"""Storybook scenes as training data: rendered once by all cores, cached on disk, and read as tensors."""

import dataclasses
import functools
import hashlib
import multiprocessing
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ip2p.models.vocabulary import Vocabulary
from ip2p.seeding import derive_seed
from ip2p.storybook import animals, brush, buildings, palette, render, scene, scenery, styles
from ip2p.storybook.language import caption
from ip2p.storybook.render import SIDE
from ip2p.storybook.scene import ATTRIBUTES, Scene, is_held_out, sample_scene, values
from ip2p.storybook.scene import Vocabulary as Values

CHUNK = 500
DRAWN_BY = (animals, brush, buildings, palette, render, scene, scenery, styles)


def natural_scene(number: int, vocabulary: Values) -> Scene:
    """Sample training scene `number` of a vocabulary with a natural layout; never a held-out combination."""
    return sample_scene(random.Random(derive_seed(0, "world", vocabulary, number)), vocabulary)


@functools.cache
def caption_vocabulary(scenes: int = 20_000) -> Vocabulary:
    """Return the words of the captions that the base model is trained on, and some of these captions."""
    rng = random.Random(0)
    captions = [caption(natural_scene(number, "base"), rng) for number in range(scenes)]
    return Vocabulary(frozenset()).add(captions, sorted(captions[:200], key=len)[:3])


def judged_scene(number: int) -> Scene:
    """Sample scene `number` of the whole vocabulary, in 70 % of cases with the layout of another scene.

    So the judge learns to read the layout from the picture and not to guess it from the attributes.
    """
    rng = random.Random(derive_seed(0, "world", "judge", number))
    shown, other = (sample_scene(rng, "all", held_out=True) for _ in range(2))
    return shown if rng.random() < 0.3 else dataclasses.replace(shown, layout=other.layout)


def edited_scene(number: int) -> Scene:
    """Return scene `number` of kind "clip" with one attribute changed and the same layout; never a held-out one.

    It uses only modules of DRAWN_BY, because cached pictures must not depend on other code.
    """
    before = natural_scene(number, "clip")
    changes: list[dict[str, Any]] = [
        {name: value}
        for name, allowed in values("clip").items()
        for value in allowed
        if value != before.attributes[name]
    ]
    rng = random.Random(derive_seed(0, "world", "clip-edited", number))
    return dataclasses.replace(
        before, **rng.choice([each for each in changes if not is_held_out({**before.attributes, **each})])
    )


def judged_scene_edited(number: int) -> Scene:
    """Return scene `number` of kind "judge" with one attribute changed; all attributes change equally often."""
    before = judged_scene(number)
    rng = random.Random(derive_seed(0, "world", "judge-edited", number))
    name = rng.choice(tuple(ATTRIBUTES))
    change: dict[str, Any] = {name: rng.choice([each for each in ATTRIBUTES[name] if each != before.attributes[name]])}
    return dataclasses.replace(before, **change)


SCENE_MAKERS: dict[str, Callable[[int], Scene]] = {
    "base": functools.partial(natural_scene, vocabulary="base"),
    "clip": functools.partial(natural_scene, vocabulary="clip"),
    "clip-edited": edited_scene,
    "judge": judged_scene,
    "judge-edited": judged_scene_edited,
}
"""Function that makes a scene from its number, for each kind of world."""


class World:
    """The first scenes of a kind with their pictures.

    Args:
        count: number of scenes; 24,000 take 4.7 GB of disk.
        kind: kind of world, a key of SCENE_MAKERS.
        folder: folder of the pictures, with one file for each kind, count and version of the drawing code.
        say: function that prints a line before pictures are drawn.
    """

    def __init__(self, count: int, kind: str, folder: Path, say: Callable[[str], None]) -> None:
        self.scenes = [SCENE_MAKERS[kind](number) for number in range(count)]
        path = folder / f"{kind}-{count}-{drawing_code()}.npy"
        if not path.is_file():
            say(f"drawing {count} scenes into {path}")
            _draw_all(path, count, kind)
        self._pixels = np.load(path, mmap_mode="r")

    def __len__(self) -> int:
        return len(self.scenes)

    def pictures(self, rows: Sequence[int]) -> Float[Tensor, "b 3 256 256"]:
        """Return the pictures of these rows, in [-1, 1], shape (b, 3, 256, 256)."""
        pixels = torch.from_numpy(self._pixels[list(rows)])
        return pixels.permute(0, 3, 1, 2).float().div_(127.5).sub_(1).contiguous()


def drawing_code() -> str:
    """Hash the drawing code, so that pictures drawn by other code are never reused: 12 hexadecimal digits."""
    digest = hashlib.sha256()
    for module in DRAWN_BY:
        assert module.__file__
        digest.update(Path(module.__file__).read_bytes())
    return digest.hexdigest()[:12]


def _draw_all(path: Path, count: int, kind: str) -> None:
    """Draw all scenes into a temporary file, and rename it when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".ip2p-tmp-{os.getpid()}-{path.name}")
    pixels = np.lib.format.open_memmap(temporary, "w+", np.uint8, (count, SIDE, SIDE, 3))
    jobs = [(start, min(start + CHUNK, count), kind) for start in range(0, count, CHUNK)]
    if len(jobs) == 1:  # faster than starting other processes
        pixels[:] = _draw(jobs[0])
    else:
        with multiprocessing.get_context("spawn").Pool() as pool:
            for (start, end, _), drawn in zip(jobs, pool.imap(_draw, jobs), strict=True):
                pixels[start:end] = drawn
    pixels.flush()
    temporary.replace(path)


def _draw(job: tuple[int, int, str]) -> np.ndarray:
    start, end, kind = job
    return np.stack([np.asarray(render.render(SCENE_MAKERS[kind](number))) for number in range(start, end)])
