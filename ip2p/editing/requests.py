"""Requests: one for each picture that a call asks for, with their settings, working sizes and batches."""

import inspect
import operator
import random
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, SupportsIndex

import torch
from PIL import Image

from ip2p.editing.masks import check_mask
from ip2p.errors import ConfigError, ImageError, InstructionError, require_unicode
from ip2p.models.backbone import Backbone
from ip2p.pictures.color import split_alpha
from ip2p.pictures.read import check_shape
from ip2p.settings import SamplingSettings, require_known, with_preset

Images = Image.Image | Sequence[Image.Image]
Texts = str | Sequence[str]
Seeds = SupportsIndex | Iterable[SupportsIndex] | None
Masks = Image.Image | Sequence[Image.Image | None] | None


class Request(NamedTuple):
    """One picture to make.

    Args:
        image: RGB picture to start from.
        text: instruction or caption.
        seed: seed of all randomness, 0 to 2**63 - 1.
        mask: mask of the pixels to edit, white; all of them if None.
        alpha: alpha channel of the picture; None if it has none.
        negative_prompt: text that guidance leads away from; may be empty.
    """

    image: Image.Image
    text: str
    seed: int
    mask: Image.Image | None = None
    alpha: Image.Image | None = None
    negative_prompt: str = ""

    @property
    def generator(self) -> torch.Generator:
        """A new generator of all randomness of the picture."""
        return torch.Generator().manual_seed(self.seed)


def plan_requests(
    images: Images,
    texts: Texts,
    seeds: Seeds,
    samples: int | None = None,
    *,
    masks: Masks = None,
    cross: bool = False,
    negative_prompts: Texts | None = None,
) -> list[Request]:
    """Plan requests in order: 1 x N, N x 1 or N x N images and texts, each of them `samples` times.

    Args:
        images, texts: images and texts, equally many or one of either. Images of any mode become RGB, upright.
        seeds: one seed, counted up over the samples; or one for each sample; or one for each request. Drawn if None.
        samples: number of samples of each image and text; None for one, or for a single pair one for each seed.
        masks: one mask, or one for each pair of image and text, of the sizes of the images. None is white everywhere.
        cross: whether to combine every image with every text, image by image; masks are then one, or one an image.
        negative_prompts: one negative prompt, or one for each pair of image and text; may be empty.

    Raises:
        InstructionError: a text is empty or not UTF-8, a negative prompt is no text, or the numbers of images, texts,
            negative prompts and seeds do not match.
        ImageError: a mask has another size than its image, or is all black.
    """
    pictures = [split_alpha(_require_image(image)) for image in _as_list(images)]
    texts = [texts] if isinstance(texts, str) else list(texts)
    regions = _as_list(masks)
    for text in texts:
        if not isinstance(text, str) or not text.strip():
            raise InstructionError(f"the text {text!r} is empty", 'Write what you want, such as "make it winter"')
        require_unicode(text, "text")
    if cross:
        regions = [mask for mask in regions for _ in texts] if len(regions) > 1 else regions
        pictures, texts = [image for image in pictures for _ in texts], texts * len(pictures)
    pairs = max(len(pictures), len(texts))
    if not pictures or not texts or {len(pictures), len(texts)} - {1, pairs}:
        raise InstructionError(
            f"{len(pictures)} images and {len(texts)} texts do not match", "Give equally many, or one of either"
        )
    if len(regions) not in (1, pairs):
        raise InstructionError(f"{len(regions)} masks for {pairs} edits", f"Give 1 or {pairs}")
    negatives = _as_list(negative_prompts or "")
    if wrong := [each for each in negatives if not isinstance(each, str)]:
        raise InstructionError(f"the negative prompt {wrong[0]!r} is no text", "Give one text, or a list of texts")
    for each in negatives:
        require_unicode(each, "negative prompt")
    if len(negatives) not in (1, pairs):
        raise InstructionError(f"{len(negatives)} negative prompts for {pairs} edits", f"Give 1 or {pairs}")
    made = []
    for pair, chosen in enumerate(_plan_seeds(seeds, pairs, samples)):
        (image, alpha), mask = pictures[pair % len(pictures)], regions[pair % len(regions)]
        mask = check_mask(mask, image.size) if mask else None
        text, negative = texts[pair % len(texts)], negatives[pair % len(negatives)]
        made += [Request(image, text, seed, mask, alpha, negative) for seed in chosen]
    return made


def resolve_settings(
    backbone: Backbone,
    settings: SamplingSettings | None,
    preset: str | None,
    options: Mapping[str, Any],
    *,
    arguments: Callable[..., Any],
) -> Any:
    """Resolve the sampling settings of a run: options override the preset, which overrides settings or the model's own.

    Args:
        backbone: model with its own settings.
        settings: settings in place of the model's own, of the same class.
        preset: name of a preset.
        options: settings by name, None if not given.
        arguments: function that was called with the options; its arguments are suggested for unknown names.

    Raises:
        ConfigError: a setting is unknown, out of range, or of the other kind of model; or there is no such preset.
    """
    own = settings or backbone.settings
    require_known(type(own), options, also=inspect.signature(arguments).parameters)
    if type(own) is not type(backbone.settings):
        raise ConfigError(
            f"settings are {type(own).__name__}", f"Give {type(backbone.settings).__name__} for {backbone.name}"
        )
    chosen = own.replace(**with_preset(type(own), preset, options))
    if backbone.compiled and chosen.reuse > 1:
        warnings.warn(f"a compiled UNet reuses no features: reuse={chosen.reuse} is left out", stacklevel=2)
        chosen = chosen.replace(reuse=1)
    return chosen.replace(resolution=chosen.resolution or backbone.image_size)


def warn_of_unknown_words(backbone: Backbone, requests: Sequence[Request]) -> None:
    """Warn of words that a model with a closed vocabulary has never seen, once for each text."""
    vocabulary = backbone.vocabulary
    for text in dict.fromkeys(text for each in requests for text in (each.text, each.negative_prompt)):
        if vocabulary and (words := vocabulary.unknown_words(text)):
            warnings.warn(f"{backbone.name} does not know {vocabulary.describe(words)}", stacklevel=1)


def working_size(size: tuple[int, int], resolution: int, multiple: int) -> tuple[int, int]:
    """Width and height that a model works at: the long side near `resolution`, both rounded to multiples.

    Raises:
        ImageError: the picture is too small or too narrow.
    """
    check_shape(size, "the picture")
    long = max(size)
    width, height = (
        max(1, (2 * side * resolution + long * multiple) // (2 * long * multiple)) * multiple for side in size
    )
    return width, height


def resize(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resize an image without cropping, so that it can be resized back to its own size later."""
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


def group_by_size(keys: Sequence[Hashable], limit: int) -> Iterator[list[int]]:
    """Group the positions of equal keys, at most `limit` in a group."""
    places: dict[Hashable, list[int]] = {}
    for place, key in enumerate(keys):
        places.setdefault(key, []).append(place)
    if limit < 1:
        raise ConfigError(f"batch={limit} cannot be used", "Give batch as 1 or more", arguments=["batch"])
    for found in places.values():
        yield from (found[start : start + limit] for start in range(0, len(found), limit))


def _as_list(images: Any) -> list[Any]:
    """A sequence as a list; a single picture, or None, as a list of one."""
    return list(images) if isinstance(images, Sequence) and not isinstance(images, str) else [images]


def _require_image(image: Any) -> Image.Image:
    """Check that an image is a PIL image.

    Raises:
        ImageError: it is not, but for example a path or an array.
    """
    if isinstance(image, Image.Image):
        return image
    fix = "Open the file first: PIL.Image.open(path)" if isinstance(image, str | Path) else "Give a PIL.Image.Image"
    if hasattr(image, "shape"):
        fix = "Convert it: PIL.Image.fromarray(array), for uint8 arrays (height, width, 3) in RGB"
    raise ImageError(f"a picture is a {type(image).__module__}.{type(image).__name__}", fix)


def _to_int(seed: Any) -> int:
    """Convert a seed to an int, also from the integers of numpy or torch.

    Raises:
        InstructionError: it is not a whole number.
    """
    try:
        whole = operator.index(seed)
        if not 0 <= whole < 2**63:
            raise InstructionError(f"the seed {whole} is out of range", "Give one from 0 to 2**63 - 1")
        return whole
    except TypeError:
        raise InstructionError(f"the seed {seed!r} is not a whole number", "Give one such as 7") from None


def _plan_seeds(seeds: Seeds, pairs: int, samples: int | None) -> list[list[int]]:
    """Choose the seeds of the samples of each pair of image and text."""
    several: Iterable[Any] = seeds if isinstance(seeds, Iterable) else () if seeds is None else (seeds,)
    given = [_to_int(seed) for seed in several]
    if samples is None:
        samples = max(1, len(given)) if pairs == 1 else 1
    if samples < 1:
        raise InstructionError(f"{samples} samples were requested", "Request at least one")
    if not given:
        given = [random.SystemRandom().randrange(2**32 - samples)]
    if len(given) == 1:
        if given[0] + samples > 2**63:
            raise InstructionError(f"the seed {given[0]} leaves no seeds for {samples} samples", "Give a smaller one")
        given = [given[0] + sample for sample in range(samples)]
    if len(given) == samples:
        return [given] * pairs
    if len(given) != pairs * samples:
        raise InstructionError(
            f"{len(given)} seeds for {pairs} edits of {samples} samples each",
            f"Give {' or '.join(str(number) for number in sorted({1, samples, pairs * samples}))}",
        )
    return [given[start : start + samples] for start in range(0, len(given), samples)]
