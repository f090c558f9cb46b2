"""Captions, where everything begins: drawn from the storybook world, or read, sampled and cleaned."""

import random
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from ip2p.data_gen.captions.clean import clean
from ip2p.data_gen.captions.sources import is_hub_name, read_texts
from ip2p.data_gen.config import CaptionsConfig
from ip2p.errors import DataError
from ip2p.records import Caption, content_id
from ip2p.seeding import derive_seed
from ip2p.storybook.language import caption
from ip2p.storybook.scene import sample_scene

STORYBOOK = "storybook"


def read_captions(settings: CaptionsConfig, seed: int) -> list[Caption]:
    """All captions that the settings ask for; empty ones and repetitions too, for the next stage to refuse.

    Args:
        settings: "storybook" draws `count` captions, as they are to be. A file or data set gives its first `count`, or
            with `sample` as many at random; either way in the order in which they stand there, and cleaned if `clean`.
        seed: seed of the run; caption k of the storybook world follows from it and k alone, a sample from it, `count`
            and the number of rows.

    Raises:
        DataError: the source is missing, unreadable, of another kind, or has no captions.
    """
    texts: Iterable[str]
    if settings.source == STORYBOOK:
        texts = (_draw_caption(seed, number) for number in range(settings.count))
    else:
        texts = _read_texts(settings, seed)
    source = _source_name(settings.source)
    captions = [Caption(id=content_id(text), text=text, source=source) for text in texts]
    if not captions:
        raise DataError(f"{settings.source} has no captions", "Write one on each line, or one in each row")
    return captions


def reservoir(texts: Iterable[str], count: int, rng: random.Random) -> list[str]:
    """`count` texts at random, each as likely as any other, in their order; all if there are no more.

    Goes once through all of them and holds `count` at a time. Whole random numbers alone decide, so that every machine
    draws the same.
    """
    kept: list[tuple[int, str]] = []
    for number, text in enumerate(texts):
        if number < count:
            kept.append((number, text))
        elif (place := rng.randrange(number + 1)) < count:
            kept[place] = (number, text)
    return [text for _, text in sorted(kept)]


def _draw_caption(seed: int, number: int) -> str:
    """Caption of a scene of the vocabulary that the base model knows, and of none that is held out."""
    rng = random.Random(derive_seed(seed, "captions", STORYBOOK, number))
    return caption(sample_scene(rng), rng)


def _read_texts(settings: CaptionsConfig, seed: int) -> Iterator[str]:
    """Texts of a source, those that are wanted alone."""
    texts: Iterable[str] = read_texts(settings)
    if settings.sample:
        texts = reservoir(texts, settings.count, random.Random(derive_seed(seed, "captions", "sample")))
    for text in islice(texts, settings.count):
        yield clean(text, settings.max_words) if settings.clean else text


def _source_name(source: str) -> str:
    """Name of a file or folder without where it lies, and of a hub data set with its owner."""
    return source if source == STORYBOOK or is_hub_name(source) else Path(source).resolve().name
