"""The judge: a small network that reads the attributes and the layout from a picture of the storybook world.

It is used for evaluation only: no filter and no training of an editor uses it. An edit is judged against the scene that
was edited, whose attributes and layout are known: the edited attribute must be read as requested, all else unchanged.

An attribute without a clear value is read as `UNCLEAR`: every attribute has a class "none of these", and a building, an
animal or a thing in the sky that is not drawn whole is unclear whatever it resembles.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ip2p.errors import ModelError, one_line
from ip2p.models.bundled import BUNDLED_NAMES, bundled_path
from ip2p.shards import atomic_dir
from ip2p.storybook.edits import Case
from ip2p.storybook.scene import ATTRIBUTES, Layout, Scene

SIDE = 256
WIDTHS = (32, 96, 160)
BLOCKS = (1, 2, 2)
GROUPS = 8
BATCH_SIZE = 64

LAYOUT = ("horizon", "building_x", "building_size", "mirrored")
TOLERANCE = (0.04, 0.06, 0.06, 0.5)
"""Allowed errors of a layout reading, in fractions of the side; "mirrored" is a probability."""

OBJECTS = ("building", "animal", "sky")
"""Attributes whose values are things, which can be drawn whole or in pieces."""

UNCLEAR = "unclear"
"""Reading of a picture that shows none of an attribute's values; its class follows those of the values."""

IGNORED = -100
"""Target that the loss ignores."""

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
JUDGE_HINT = "Give storybook-judge or a folder that `python train/storybook/base.py` wrote"


class Reading(NamedTuple):
    """Attributes and layout that the judge reads from pictures.

    Attributes:
        attributes: indices of the values in `ATTRIBUTES` by name, shape (b,); the number of values if `UNCLEAR`.
        layout: layouts in the order of `LAYOUT`, shape (b, 4), in fractions of the side; mirrored is a probability.
    """

    attributes: dict[str, Int[Tensor, " b"]]
    layout: Float[Tensor, "b 4"]

    def values(self, row: int) -> dict[str, str]:
        """The value of every attribute of one picture, by name, or `UNCLEAR`."""
        return {name: (*ATTRIBUTES[name], UNCLEAR)[int(indices[row])] for name, indices in self.attributes.items()}


class Belief(NamedTuple):
    """Beliefs of the judge about pictures.

    Attributes:
        attributes: probabilities of the values in `ATTRIBUTES`, and of `UNCLEAR` as the last, by name, shape (b, n).
        layout: layouts in the order of `LAYOUT`, shape (b, 4), as in `Reading`.
    """

    attributes: dict[str, Float[Tensor, "b n"]]
    layout: Float[Tensor, "b 4"]


class JudgeOutput(NamedTuple):
    """Output of the network in fp32.

    Attributes:
        logits: logits by name of the attribute, shape (b, values + 1); the last class is `UNCLEAR`.
        whole: logits of each thing being drawn whole, in the order of `OBJECTS`, shape (b, 3).
        layout: layouts in the order of `LAYOUT`, shape (b, 4), in [0, 1]; mirrored is a probability, not a logit.
    """

    logits: dict[str, Float[Tensor, "b n"]]
    whole: Float[Tensor, "b 3"]
    layout: Float[Tensor, "b 4"]

    def reading(self) -> Reading:
        """The likeliest value of each attribute, and the layout; a thing that is not whole is unclear."""
        read = {name: rows.argmax(-1) for name, rows in self.logits.items()}
        for column, name in enumerate(OBJECTS):
            values = ATTRIBUTES[name]
            nothing = values.index("none") if "none" in values else -1
            pieces = (read[name] != nothing) & (self.whole[:, column] <= 0)
            read[name] = read[name].masked_fill(pieces, len(values))
        return Reading(read, self.layout)

    def belief(self) -> Belief:
        """The probability of each value, and the layout; a thing that may be in pieces may be unclear."""
        likely = {name: rows.softmax(-1) for name, rows in self.logits.items()}
        for column, name in enumerate(OBJECTS):
            values = ATTRIBUTES[name]
            whole = self.whole[:, column : column + 1].sigmoid().repeat(1, len(values))
            if "none" in values:
                whole[:, values.index("none")] = 1
            clear = likely[name][:, :-1] * whole
            likely[name] = torch.cat([clear, 1 - clear.sum(-1, keepdim=True)], dim=-1)
        return Belief(likely, self.layout)


class Outcome(NamedTuple):
    """The judge's verdict on one edit.

    Attributes:
        success: whether the edited attribute is read as the requested value.
        attributes_kept: share of the other attributes that are read as they are in the source scene.
        layout_kept: share of the quantities in `LAYOUT` that are read within `TOLERANCE` of the source scene's.
        preservation: attributes_kept * layout_kept, so that neither another composition nor other things in the same
            composition count as preserved.
        everything_kept: whether all other attributes and all of the layout are kept.
    """

    success: bool
    attributes_kept: float
    layout_kept: float
    preservation: float
    everything_kept: bool


class _Config(BaseModel):
    """The config.json of a judge: attributes and layout in order, and widths."""

    model_config = ConfigDict(frozen=True)

    attributes: dict[str, tuple[str, ...]]
    layout: tuple[str, ...]
    widths: tuple[int, int, int]


class _Block(nn.Module):
    """Two 3x3 convolutions with group normalization and a shortcut; stride 2 halves the side."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, width, 3, stride, 1, bias=False),
            nn.GroupNorm(GROUPS, width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            nn.GroupNorm(GROUPS, width),
        )
        same = before == width and stride == 1
        self.shortcut = nn.Identity() if same else nn.Sequential(nn.AvgPool2d(stride), nn.Conv2d(before, width, 1))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k i j"]:
        return F.relu(self.body(x) + self.shortcut(x))


class JudgeNet(nn.Module):
    """A ResNet at 64, 32 and 16 px with heads for attributes, whole things and the layout; rows are independent.

    Attributes are read from the mean and the maximum of each feature at 32 and at 16 px: the mean shows what is
    everywhere (style, season), the maximum what is small (an animal has 40 to 60 px). The layout is read from the
    feature map at 16 px.

    Args:
        widths: numbers of channels at 64, 32 and 16 px, multiples of 8.
    """

    def __init__(self, widths: tuple[int, int, int] = WIDTHS) -> None:
        super().__init__()
        assert all(width > 0 and width % GROUPS == 0 for width in widths), f"widths {widths}"
        self.widths = widths
        first, middle, last = widths
        self.stem = nn.Sequential(
            nn.Conv2d(3, 24, 3, 2, 1), nn.ReLU(), nn.Conv2d(24, first, 3, 2, 1), nn.GroupNorm(GROUPS, first), nn.ReLU()
        )
        stages, before = [], first
        for number, (width, blocks) in enumerate(zip(widths, BLOCKS, strict=True)):
            strides = [2 if number and not k else 1 for k in range(blocks)]
            stages.append(
                nn.Sequential(*(_Block(width if k else before, width, stride) for k, stride in enumerate(strides)))
            )
            before = width
        self.fine, self.middle, self.coarse = stages
        self.trunk = nn.Sequential(nn.Linear(2 * (middle + last), 192), nn.GELU())
        self.heads = nn.ModuleDict({name: nn.Linear(192, len(values) + 1) for name, values in ATTRIBUTES.items()})
        self.whole = nn.Linear(192, len(OBJECTS))
        self.place = nn.Sequential(
            nn.Conv2d(last, 16, 1), nn.Flatten(), nn.Linear(16 * (SIDE // 16) ** 2, 64), nn.GELU(),
            nn.Linear(64, len(LAYOUT)),
        )  # fmt: skip

    def forward(self, x: Float[Tensor, "b 3 256 256"]) -> JudgeOutput:
        """Read pictures in [-1, 1]; the output is fp32, also under autocast."""
        middle = self.middle(self.fine(self.stem(x)))
        coarse = self.coarse(middle)
        pooled = torch.cat([part for h in (middle, coarse) for part in (h.mean((2, 3)), h.amax((2, 3)))], dim=1)
        seen = self.trunk(pooled)
        logits = {name: head(seen).float() for name, head in self.heads.items()}
        return JudgeOutput(logits, self.whole(seen).float(), self.place(coarse).float().sigmoid())


class Judge:
    """A network that reads pictures, and the verdicts that follow from its readings.

    Args:
        net: network on any device; pictures are moved there, and readings back to the CPU.
    """

    def __init__(self, net: JudgeNet) -> None:
        self.net = net.eval()

    @classmethod
    def from_pretrained(
        cls, name_or_folder: str | Path = "storybook-judge", *, device: str | torch.device = "cpu"
    ) -> "Judge":
        """Load a judge in fp32.

        Args:
            name_or_folder: bundled name, or a folder that `save_pretrained` wrote.
            device: device to compute on.

        Raises:
            ModelError: there is no such judge, it is damaged, or it reads other attributes or values than scenes have.
        """
        bundled = str(name_or_folder) in BUNDLED_NAMES
        folder = bundled_path(str(name_or_folder)) if bundled else Path(name_or_folder)
        try:
            config = _Config.model_validate_json((folder / CONFIG_FILE).read_bytes())
            _check(config, folder)
            if any(width <= 0 or width % GROUPS for width in config.widths):
                raise ValueError(f"its widths {config.widths} are no multiples of {GROUPS}")
            net = JudgeNet(config.widths)
            net.load_state_dict(load_file(folder / WEIGHTS_FILE))  # rounded on disk, fp32 in memory
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise ModelError(f"cannot load the judge {name_or_folder} ({_reason(error)})", JUDGE_HINT) from error
        return cls(net.to(device))

    def save_pretrained(self, folder: Path, extra: Mapping[str, str] | None = None) -> None:
        """Write config.json and the weights in fp16, atomically.

        Args:
            folder: folder to write; replaced if it exists.
            extra: texts of further files by name, such as "README.md".
        """
        config = _Config(attributes=ATTRIBUTES, layout=LAYOUT, widths=self.net.widths)
        weights = {
            key: value.detach().to("cpu", torch.float16).contiguous() for key, value in self.net.state_dict().items()
        }
        with atomic_dir(folder) as temporary:
            (temporary / CONFIG_FILE).write_text(json.dumps(config.model_dump(mode="json"), indent=2) + "\n")
            save_file(weights, temporary / WEIGHTS_FILE, metadata={"format": "pt"})
            for file, text in (extra or {}).items():
                (temporary / file).write_text(text)

    @torch.inference_mode()
    def read(self, x: Float[Tensor, "b 3 h w"]) -> Reading:
        """Read the attributes and layouts of pictures in [-1, 1], of any size, in batches of 64."""
        readings = [output.reading() for output in self._see(x)]
        return Reading(*_join([reading.attributes for reading in readings], [reading.layout for reading in readings]))

    @torch.inference_mode()
    def believe(self, x: Float[Tensor, "b 3 h w"]) -> Belief:
        """Read the probabilities of all values, and the layouts, of pictures in [-1, 1], of any size."""
        beliefs = [output.belief() for output in self._see(x)]
        return Belief(*_join([belief.attributes for belief in beliefs], [belief.layout for belief in beliefs]))

    def _see(self, x: Float[Tensor, "b 3 h w"]) -> Iterator[JudgeOutput]:
        """Yield the network's outputs, batch by batch."""
        device = next(self.net.parameters()).device
        for rows in x.float().split(BATCH_SIZE):
            rows = rows.to(device)
            if rows.shape[-2:] != (SIDE, SIDE):
                rows = F.interpolate(rows, (SIDE, SIDE), mode="bicubic", antialias=True).clamp(-1, 1)
            output: JudgeOutput = self.net(rows)
            yield output

    def measure(self, x: Float[Tensor, "b 3 h w"], cases: Sequence[Case]) -> list[Outcome]:
        """Judge edited pictures in [-1, 1] against their cases."""
        return outcomes(self.read(x), cases)


def _join(attributes: list[dict[str, Tensor]], layouts: list[Tensor]) -> tuple[dict[str, Tensor], Tensor]:
    """Join what was read batch by batch, on the CPU."""
    return {name: torch.cat([each[name] for each in attributes]).cpu() for name in ATTRIBUTES}, torch.cat(layouts).cpu()


def attribute_target(scene: Scene) -> list[int]:
    """The true indices of a scene's values, in the order of `ATTRIBUTES`."""
    return [ATTRIBUTES[name].index(value) for name, value in scene.attributes.items()]


def layout_target(layout: Layout) -> list[float]:
    """The true layout in the order of `LAYOUT`, as seen in the finished picture: a mirrored x is 1 - x."""
    seen_x = 1 - layout.building_x if layout.mirrored else layout.building_x
    return [layout.horizon, seen_x, layout.building_size, float(layout.mirrored)]


def outcomes(reading: Reading, cases: Sequence[Case]) -> list[Outcome]:
    """Judge edits by the readings of the edited pictures, row by row."""
    assert len(cases) == len(reading.layout), f"{len(cases)} cases for {len(reading.layout)} pictures"
    found = []
    for row, case in enumerate(cases):
        edited = case.edit.attribute
        read = reading.values(row)
        attributes = [read[name] == value for name, value in case.scene.attributes.items() if name != edited]
        true = layout_target(case.scene.layout)
        off = [abs(float(seen) - t) for seen, t in zip(reading.layout[row], true, strict=True)]
        layout = [distance <= allowed for distance, allowed in zip(off, TOLERANCE, strict=True)]
        attributes_kept, layout_kept = sum(attributes) / len(attributes), sum(layout) / len(layout)
        found.append(
            Outcome(
                success=read[edited] == case.edit.value,
                attributes_kept=attributes_kept,
                layout_kept=layout_kept,
                preservation=attributes_kept * layout_kept,
                everything_kept=all(attributes) and all(layout),
            )
        )
    return found


def whole_target(scene: Scene) -> list[int]:
    """1 for each of `OBJECTS` that the scene has, `IGNORED` for the others."""
    return [IGNORED if scene.attributes[name] == "none" else 1 for name in OBJECTS]


def judge_loss(
    output: JudgeOutput, attributes: Int[Tensor, "b n"], whole: Int[Tensor, "b 3"], layout: Float[Tensor, "b 4"]
) -> Float[Tensor, ""]:
    """Mean cross-entropy of the attributes + mean loss of the layout + binary cross-entropy of whole things.

    Layout errors are measured in tolerances, so that an error of one tolerance costs as much as a doubtful attribute:
    smooth L1 of (read - true) / tolerance, quadratic below one half; mirrored has its binary cross-entropy.

    Args:
        output: output of the network.
        attributes: indices from `attribute_target`; the number of values if the attribute is unclear, and `IGNORED` if
            it is unknown.
        whole: targets from `whole_target`: 1, 0 or `IGNORED`.
        layout: targets from `layout_target`.
    """
    entropies = [_entropy(output.logits[name], attributes[:, k]) for k, name in enumerate(ATTRIBUTES)]
    known = whole != IGNORED
    pieces = F.binary_cross_entropy_with_logits(output.whole, whole.clamp_min(0).float(), reduction="none")
    off = (output.layout - layout)[:, :3] / layout.new_tensor(TOLERANCE[:3])
    distances = F.smooth_l1_loss(off, torch.zeros_like(off), beta=0.5, reduction="none").mean(0)
    with torch.autocast(layout.device.type, enabled=False):  # binary_cross_entropy refuses autocast; these are fp32
        mirrored = F.binary_cross_entropy(output.layout[:, 3], layout[:, 3])
    seen = (pieces * known).sum() / known.sum().clamp_min(1)
    return torch.stack(entropies).mean() + torch.stack([*distances, mirrored]).mean() + 0.5 * seen


def _entropy(logits: Float[Tensor, "b n"], target: Int[Tensor, " b"]) -> Float[Tensor, ""]:
    """Mean cross-entropy of the rows with a target; 0 if there are none."""
    total = F.cross_entropy(logits, target, ignore_index=IGNORED, reduction="sum")
    return total / (target != IGNORED).sum().clamp_min(1)


def _check(config: _Config, folder: Path) -> None:
    """Refuse a judge whose attributes or layout are not those of scenes, in their order."""
    if list(config.attributes) != list(ATTRIBUTES):
        wrong = f"the attributes {', '.join(config.attributes)}, and scenes have {', '.join(ATTRIBUTES)}"
    elif config.layout != LAYOUT:
        wrong = f"the layout {', '.join(config.layout)}, and here it is {', '.join(LAYOUT)}"
    else:
        other = [name for name, values in ATTRIBUTES.items() if config.attributes[name] != values]
        if not other:
            return
        name = other[0]
        wrong = f"{name} as {', '.join(config.attributes[name])}, and scenes have {', '.join(ATTRIBUTES[name])}"
    raise ModelError(f"the judge {folder} reads {wrong}", "Train it again with `python train/storybook/base.py`")


def _reason(error: Exception) -> str:
    """The message of an exception in one short line."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{CONFIG_FILE}: {'.'.join(map(str, first['loc'])) or 'file'}: {first['msg']}"
    return one_line(error)
