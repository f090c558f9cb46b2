"""Captions of a build: generated from the storybook world, or read, sampled and cleaned."""

import random
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from ip2p.data_gen.captions.clean import clean
from ip2p.data_gen.captions.sources import is_hub_name, read_texts
from ip2p.data_gen.config import CaptionsConfig, DatasetConfig
from ip2p.data_gen.writers.files import read_triple_file
from ip2p.errors import DataError
from ip2p.records import Caption, content_id
from ip2p.seeding import derive_seed
from ip2p.storybook.language import caption
from ip2p.storybook.scene import sample_scene

STORYBOOK = "storybook"


def read_captions(settings: CaptionsConfig, seed: int) -> list[Caption]:
    """Read or generate the captions of a build; empty and repeated ones too, for the next stage to refuse.

    Args:
        settings: settings of the captions. The source "storybook" generates `count` captions. A file or data set gives
            its first `count` captions, or with `sample` as many at random; in its order, and cleaned if `clean`.
        seed: seed of the run; caption k of the storybook world depends on it and k alone, a sample on it, `count` and
            the number of rows.

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


def read_build_captions(config: DatasetConfig) -> list[Caption]:
    """Read or generate the captions of a build: those of its finished triples, if there are any; see `read_captions`.

    Raises:
        DataError: the file of triples or the source of captions is missing, or not as it should be.
    """
    if not config.triples.file:
        return read_captions(config.captions, config.seed)
    path = Path(config.triples.file)
    texts = dict.fromkeys(each.caption for each in read_triple_file(path))
    return [Caption(id=content_id(text), text=text, source=path.name) for text in texts]


def reservoir(texts: Iterable[str], count: int, rng: random.Random) -> list[str]:
    """Sample `count` texts uniformly without replacement, in their order; all of them if there are no more.

    Reservoir sampling: it reads all texts once and keeps `count` in memory. Only integer random numbers are used, so
    every machine draws the same.
    """
    kept: list[tuple[int, str]] = []
    for number, text in enumerate(texts):
        if number < count:
            kept.append((number, text))
        elif (place := rng.randrange(number + 1)) < count:
            kept[place] = (number, text)
    return [text for _, text in sorted(kept)]


def _draw_caption(seed: int, number: int) -> str:
    """Generate a caption of a scene from the base model's vocabulary, except held-out scenes."""
    rng = random.Random(derive_seed(seed, "captions", STORYBOOK, number))
    return caption(sample_scene(rng), rng)


def _read_texts(settings: CaptionsConfig, seed: int) -> Iterator[str]:
    """Read the requested number of texts of a source."""
    texts: Iterable[str] = read_texts(settings)
    if settings.sample:
        texts = reservoir(texts, settings.count, random.Random(derive_seed(seed, "captions", "sample")))
    for text in islice(texts, settings.count):
        yield clean(text, settings.max_words) if settings.clean else text


def _source_name(source: str) -> str:
    """Return the name of a file or folder without its path, or of a hub data set with its owner."""
    return source if source == STORYBOOK or is_hub_name(source) else Path(source).resolve().name
