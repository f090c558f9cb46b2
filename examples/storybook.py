"""Draw the contact sheets of docs/storybook.md: `python examples/storybook.py --out docs/storybook`.

The scenes need no model. `--models` adds sheets by the bundled models: reconstructions beside their pictures,
pictures that the base model draws from held-out captions, and edits of held-out scenes.
"""

import argparse
import dataclasses
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from PIL import Image

from ip2p import Editor
from ip2p.cli.outputs import require_free
from ip2p.editing.generation import generate
from ip2p.errors import run_program
from ip2p.evaluation.samples import Sample, storybook_samples
from ip2p.models.backbone import load_backbone
from ip2p.pictures.contact_sheet import contact_sheet
from ip2p.pictures.tensors import to_images, to_tensor
from ip2p.pictures.write import save_picture
from ip2p.storybook.edits import evaluation_cases
from ip2p.storybook.render import render
from ip2p.storybook.scene import ATTRIBUTES, EDIT_KINDS, Scene, natural_layout, sample_scene

PLAIN = {
    "place": "lake", "season": "summer", "time": "day", "weather": "clear", "clouds": "one", "building": "cottage",
    "color": "white", "roof": "red", "door": "blue", "animal": "dog", "sky": "none", "style": "illustration",
}  # fmt: skip
COLUMNS = 8


def attributes() -> Image.Image:
    """Draw every value of every attribute, one attribute in each row, in a scene that is otherwise the same."""
    return contact_sheet(
        [[render(_plain(**{name: value})) for value in values] for name, values in ATTRIBUTES.items()],
        list(ATTRIBUTES),
    )


def scenes() -> Image.Image:
    """Draw 48 training scenes."""
    rng = random.Random(48)
    drawn = [render(sample_scene(rng)) for _ in range(48)]
    return contact_sheet([drawn[start : start + COLUMNS] for start in range(0, len(drawn), COLUMNS)])


def edits() -> Image.Image:
    """Draw an edit of every kind: the scene, and its exact target."""
    samples = _one_of_each_kind()
    return _before_and_after(samples, [each.load().target for each in samples])


def edited() -> Image.Image:
    """Let the bundled editor make a held-out edit of every kind: the scene, and what became of it."""
    samples = _one_of_each_kind()
    made = Editor.from_pretrained().edit(
        [each.load().source for each in samples], [each.instruction for each in samples],
        seeds=[each.seed for each in samples],
    )  # fmt: skip
    return _before_and_after(samples, [each.image for each in made])


def _one_of_each_kind() -> list[Sample]:
    """Return the first edit of every kind in an evaluation, with its seed."""
    first = {each.kind: each for each in reversed(storybook_samples(200, 2024))}
    return [first[kind] for kind in EDIT_KINDS if kind in first]


def _before_and_after(samples: Sequence[Sample], after: Sequence[Image.Image]) -> Image.Image:
    """Put scenes and pictures after an edit side by side, three edits in a row, with kinds and instructions below."""
    pictures = [image for each, picture in zip(samples, after, strict=True) for image in (each.load().source, picture)]
    texts = [text for each in samples for text in (each.kind.replace("_", " "), each.instruction)]
    starts = range(0, len(pictures), 6)
    return contact_sheet(
        [pictures[start : start + 6] for start in starts], captions=[texts[start : start + 6] for start in starts]
    )


def reconstructions() -> Image.Image:
    """Draw held-out pictures, each beside its reconstruction by the autoencoder."""
    pictures = [render(case.scene) for case in evaluation_cases(12, seed=7)]
    vae = load_backbone("storybook-base").vae
    with torch.inference_mode():
        back = to_images(vae.decode(vae.encode(to_tensor(pictures)).latents).sample)
    both = [image for pair in zip(pictures, back, strict=True) for image in pair]
    return contact_sheet([both[start : start + 6] for start in range(0, len(both), 6)])


def captions() -> Image.Image:
    """Draw pictures from 24 held-out captions."""
    texts = [case.caption for case in evaluation_cases(24, seed=7)]
    drawn = generate(load_backbone("storybook-base", want="base"), texts, seeds=list(range(24)), batch=8)
    starts = range(0, 24, 4)
    return contact_sheet(
        [drawn[start : start + 4] for start in starts], captions=[texts[start : start + 4] for start in starts]
    )


WORLD: tuple[Callable[[], Image.Image], ...] = (attributes, scenes, edits)
MODELS: tuple[Callable[[], Image.Image], ...] = (reconstructions, captions, edited)


def _plain(**values: str) -> Scene:
    """Make the plain scene with some values changed and the same layout, except for the size of another building."""
    layout = natural_layout(PLAIN, random.Random(3))
    if "building" in values:
        own = natural_layout(PLAIN | values, random.Random(3))
        layout = dataclasses.replace(layout, building_x=own.building_x, building_size=own.building_size)
    return Scene(**(PLAIN | values), layout=layout)


def run(out: Path, *, models: bool) -> None:
    """Write one WebP file for each sheet."""
    draws = {out / f"{draw.__name__}.webp": draw for draw in WORLD + (MODELS if models else ())}
    for path in draws:
        require_free(path, {"sheet": path.stem}, fix="Give another folder as --out")
    for path, draw in draws.items():
        save_picture(draw(), path, {"sheet": path.stem})
        print(f"wrote {path}")


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/storybook"), help="folder to write to")
    parser.add_argument("--models", action="store_true", help="also draw the sheets that need the bundled models")
    parsed = parser.parse_args()
    return run_program(lambda: run(parsed.out, models=parsed.models))


if __name__ == "__main__":
    sys.exit(main())
