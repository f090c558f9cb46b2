"""Methods that are measured: the editor, its bounds, and other ways to edit with the same base model."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

import torch
from PIL import Image

from ip2p.editing.changes import change_mask, compare
from ip2p.editing.editor import Editor
from ip2p.editing.generation import generate, img2img
from ip2p.editing.inversion import edit_by_captions
from ip2p.editing.masks import paste
from ip2p.editing.requests import resize, working_size
from ip2p.errors import ConfigError
from ip2p.evaluation.curve import MIN_SAMPLES
from ip2p.evaluation.measures import Batch
from ip2p.evaluation.samples import Sample
from ip2p.models.backbone import Backbone
from ip2p.pictures.tensors import to_images, to_tensor
from ip2p.settings import PRESETS

Group = Literal["editor", "bound", "copy", "sdedit", "p2p", "text"]
GROUPS: tuple[Group, ...] = get_args(Group)
"""Names of methods on the command line: the editor; the exact target through its autoencoder, which no edit is likely
to exceed; the unchanged input; SDEdit; Prompt-to-Prompt after inversion; text-to-image from the edited caption."""
Need = Literal["", "captions", "target"]

EDITOR, BOUND, COPY = "editor", "exact target through the autoencoder", "copy of the input"
SDEDIT, PROMPT_TO_PROMPT, TEXT_TO_IMAGE = "SDEdit", "Prompt-to-Prompt", "text-to-image"

BASELINE_SETTINGS: dict[str, Any] = {"scheduler": "dpm", "steps": 10}
"""Settings of the baselines: a solver with few steps, of which every strength in tenths is a whole number."""
FEW_STEPS: dict[str, Any] = {"scheduler": "dpm", "steps": 8}
"""Settings of the editor for the many pictures of a curve."""
QUICK_SETTINGS: dict[str, Any] = PRESETS["fast"].settings
"""Settings of the editor for a quick look."""
STRENGTHS = (0.3, 0.5, 0.7, 0.9)
SHARES = (0.2, 0.5, 0.8)
IMAGE_SCALES = (1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.2)
PAPER_TEXT_SCALE = 7.5


class CurvePoint(NamedTuple):
    """A point of a trade-off curve.

    Attributes:
        curve: name of the curve.
        setting: setting that differs from point to point, such as "s_I 1.4".
    """

    curve: str
    setting: str


@dataclass(frozen=True)
class Method:
    """A way to edit.

    Args:
        name: name in tables.
        group: name on the command line.
        draw: function from a batch to its edited pictures.
        settings: what its pictures depend on besides the samples.
        limit: number of samples that it is measured on, the first ones; None for all.
        need: what a sample must have.
        point: its point of a curve; None if it is on none.
        tabled: whether it is in the tables and all is measured; else it is a point of a curve only.
    """

    name: str
    group: Group
    draw: Callable[[Batch], list[Image.Image]] = field(repr=False, compare=False)
    settings: Mapping[str, Any] = field(default_factory=dict)
    limit: int | None = None
    need: Need = ""
    point: CurvePoint | None = None
    tabled: bool = True

    @property
    def slug(self) -> str:
        """Name of its folder."""
        return "".join(letter if letter.isalnum() else "-" for letter in self.name.lower())


@dataclass(frozen=True)
class Extent:
    """Extent of an evaluation.

    Args:
        groups: names of the methods to measure.
        quick: whether the editor takes few steps, too.
        curve: whether to draw the trade-off curve.
        baseline_samples: number of samples that baselines which draw are measured on.
        curve_samples: number of samples of the curve.
    """

    groups: Sequence[Group] = GROUPS
    quick: bool = False
    curve: bool = False
    baseline_samples: int = 100
    curve_samples: int = 100


def require_groups(names: Iterable[str]) -> tuple[Group, ...]:
    """Check the names of methods.

    Raises:
        ConfigError: there is no method of a name.
    """
    known: dict[str, Group] = {each: each for each in GROUPS}
    wanted = [name.strip() for name in names]
    for name in wanted:
        if name not in known:
            raise ConfigError(f"there is no method {name!r}", f"Give some of {', '.join(GROUPS)}")
    return tuple(group for group in GROUPS if group in wanted)


def require_curve(extent: Extent, samples: Sequence[Sample], *, has_clip: bool) -> None:
    """Check that a trade-off curve can be drawn if there is to be one.

    Args:
        extent: how much is drawn.
        samples: samples of the data.
        has_clip: whether a CLIP measures.

    Raises:
        ConfigError: there is no CLIP, whose measures are its axes, no editor, whose curve it is, or fewer than two
            samples with a direction.
    """
    if not extent.curve:
        return
    if not has_clip:
        raise ConfigError("a curve needs CLIP, whose measures are its axes", "Leave out the curve, or give a CLIP")
    if "editor" not in extent.groups:
        raise ConfigError("a curve is that of an editor", "Leave out the curve, or name editor among the methods")
    if sum(each.has_direction for each in samples[: extent.curve_samples]) < MIN_SAMPLES:
        what = f"a curve needs {MIN_SAMPLES} samples with two different captions, which have a direction"
        raise ConfigError(what, "Leave out the curve, or give more samples, or samples with captions")


def make_methods(editor: Editor, base: Backbone | None, extent: Extent, *, batch: int) -> list[Method]:
    """List the methods to measure, in the order of the tables.

    Args:
        editor: editor to measure.
        base: text-to-image model of the baselines; None leaves them out.
        extent: how much is drawn.
        batch: number of pictures drawn at once.
    """
    methods = [_editor_method(editor, EDITOR, QUICK_SETTINGS if extent.quick else {}, batch)]
    methods += [_bound(editor.backbone), Method(COPY, "copy", lambda each: [one.source for one in each.pictures])]
    if base is not None:
        methods += [*_baselines(base, extent, batch)]
    chosen = [each for each in methods if each.group in extent.groups]
    return chosen + (_curve_of_editor(editor, extent, batch) if extent.curve and "editor" in extent.groups else [])


def _editor_method(editor: Editor, name: str, settings: Mapping[str, Any], batch: int, **others: Any) -> Method:
    """The editor at some settings, its own where they say nothing."""

    def draw(each: Batch) -> list[Image.Image]:
        samples = each.samples
        made = editor.edit(
            [one.source for one in each.pictures], [one.instruction for one in samples],
            seeds=[one.seed for one in samples], batch=batch, **settings,
        )  # fmt: skip
        return [one.image for one in made]

    used = editor.backbone.settings.replace(**settings).model_dump()
    return Method(name, "editor", draw, used | {"weights": editor.backbone.weights}, **others)


def _bound(backbone: Backbone) -> Method:
    """The exact target through the editor's autoencoder at its resolution, finished as its edits are."""
    side = backbone.settings.resolution or backbone.image_size
    keeps = bool(backbone.settings.model_dump().get("keep_unchanged"))

    @torch.inference_mode()
    def draw(each: Batch) -> list[Image.Image]:
        made = []
        for one in each.pictures:
            assert one.target is not None, "no target"
            size = working_size(one.target.size, side, backbone.downscale)
            source, target = (to_tensor([resize(each, size)]).to(backbone.device) for each in (one.source, one.target))
            (image,) = to_images(backbone.decode(backbone.encode_target(target)))
            if keeps:
                change = compare(backbone, source, [image])[0]
                image = paste(resize(image, one.source.size), one.source, change_mask(change, one.source.size))
            made.append(image)
        return made

    return Method(BOUND, "bound", draw, {"resolution": side, "keep_unchanged": keeps}, need="target")


def _baselines(base: Backbone, extent: Extent, batch: int) -> Iterator[Method]:
    """The baselines, by a text-to-image model that is given the edited caption, or both captions."""
    common: dict[str, Any] = {"limit": extent.baseline_samples, "need": "captions"}
    options = {"batch": batch, **BASELINE_SETTINGS}
    used = base.settings.replace(**BASELINE_SETTINGS).model_dump()
    for strength in STRENGTHS:
        yield Method(
            f"{SDEDIT} {strength}", "sdedit", _sdedit(base, strength, options), used | {"strength": strength},
            point=CurvePoint(SDEDIT, f"strength {strength}"), **common,
        )  # fmt: skip
    features = base.vocabulary is not None  # a small UNet, whose attention alone does not keep the layout
    for share in SHARES if extent.curve else SHARES[1:2]:
        yield Method(
            f"{PROMPT_TO_PROMPT} {share}", "p2p", _prompt_to_prompt(base, share, features, options),
            used | {"share": share, "features": features}, point=CurvePoint(PROMPT_TO_PROMPT, f"share {share}"),
            **common,
        )  # fmt: skip
    yield Method(TEXT_TO_IMAGE, "text", _text_to_image(base, options), used, **common)


def _sdedit(base: Backbone, strength: float, options: Mapping[str, Any]) -> Callable[[Batch], list[Image.Image]]:
    return lambda each: img2img(
        base, [one.source for one in each.pictures], [one.edited_caption for one in each.samples],
        seeds=[one.seed for one in each.samples], strength=strength, **options,
    )  # fmt: skip


def _prompt_to_prompt(
    base: Backbone, share: float, features: bool, options: Mapping[str, Any]
) -> Callable[[Batch], list[Image.Image]]:
    return lambda each: edit_by_captions(
        base, [one.source for one in each.pictures], [one.caption for one in each.samples],
        [one.edited_caption for one in each.samples], share=share, features=features, **options,
    )  # fmt: skip


def _text_to_image(base: Backbone, options: Mapping[str, Any]) -> Callable[[Batch], list[Image.Image]]:
    return lambda each: generate(
        base, [one.edited_caption for one in each.samples], seeds=[one.seed for one in each.samples], **options
    )


def _curve_of_editor(editor: Editor, extent: Extent, batch: int) -> list[Method]:
    """The editor over image scales, at its own text scale and at the paper's (Figure 8)."""
    own = editor.backbone.settings.model_dump()["text_scale"]
    steps = QUICK_SETTINGS if extent.quick else FEW_STEPS
    return [
        _editor_method(
            editor, f"{EDITOR} s_T {text:g} s_I {image:g}",
            {**steps, "text_scale": text, "image_scale": image}, batch, limit=extent.curve_samples,
            need="captions", tabled=False, point=CurvePoint(f"{EDITOR}, s_T {text:g}", f"s_I {image:g}"),
        )
        for text in dict.fromkeys((float(own), PAPER_TEXT_SCALE)) for image in IMAGE_SCALES
    ]  # fmt: skip


@contextmanager
def counted_rows(*networks: torch.nn.Module) -> Iterator[Callable[[], int]]:
    """Context manager that counts the rows of all calls of some UNets; it gives a function that tells them."""
    counts = [0]

    def count(_: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        counts[0] += len(inputs[0])

    handles = [network.register_forward_pre_hook(count) for network in networks]
    try:
        yield lambda: counts[0]
    finally:
        for handle in handles:
            handle.remove()
