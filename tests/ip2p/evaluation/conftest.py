"""Small samples, and methods that draw nothing."""

from collections.abc import Callable

import pytest
from PIL import Image

from ip2p.evaluation.measures import Batch
from ip2p.evaluation.methods import Method
from ip2p.evaluation.samples import Pictures, Sample

MakeSample = Callable[..., Sample]


def gray(level: int) -> Image.Image:
    """A gray picture of 32 px with a brighter half."""
    picture = Image.new("RGB", (32, 32), (level, level, level))
    picture.paste((min(255, level + 90),) * 3, (0, 0, 32, 16))
    return picture


@pytest.fixture
def make_sample() -> MakeSample:
    """Function that makes sample k: a gray picture, whose target is brighter."""

    def make(number: int, **changes: object) -> Sample:
        given: dict[str, object] = {
            "name": f"s-{number}", "kind": ("light", "dark")[number % 2], "instruction": "make it brighter",
            "seed": number, "load": lambda: Pictures(gray(10 * number), gray(10 * number + 60)),
            "caption": "a dark square", "edited_caption": "a bright square",
        }  # fmt: skip
        return Sample(**given | changes)  # type: ignore[arg-type]

    return make


@pytest.fixture
def targets() -> Method:
    """A method whose pictures are the exact targets."""

    def draw(batch: Batch) -> list[Image.Image]:
        return [each.target or each.source for each in batch.pictures]

    return Method("exact", "bound", draw)
