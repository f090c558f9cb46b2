"""Sampling settings, each defined once for command line, batch files, presets, recorded parameters and docs.

A model's own values are in `ip2p.json` in its folder; a preset overrides some of them, and the caller's values
override both.
"""

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ip2p.errors import ConfigError, ModelError

SETTINGS_FILE = "ip2p.json"


class SchedulerEntry(NamedTuple):
    """A scheduler that can be selected by name.

    Args:
        diffusers_class: name of its class in diffusers.
        config: keys that differ from those of the model's own scheduler.
        web_ui_name: name of it in programs that show the parameters of pictures.
    """

    diffusers_class: str
    config: Mapping[str, Any]
    web_ui_name: str


SCHEDULERS: dict[str, SchedulerEntry] = {
    "euler_a": SchedulerEntry("EulerAncestralDiscreteScheduler", {}, "Euler a"),
    "euler": SchedulerEntry("EulerDiscreteScheduler", {}, "Euler"),
    "heun": SchedulerEntry("HeunDiscreteScheduler", {}, "Heun"),
    "ddim": SchedulerEntry("DDIMScheduler", {}, "DDIM"),
    "ddpm": SchedulerEntry("DDPMScheduler", {}, "DDPM"),
    "pndm": SchedulerEntry("PNDMScheduler", {"skip_prk_steps": True}, "PLMS"),
    "dpm": SchedulerEntry("DPMSolverMultistepScheduler", {}, "DPM++ 2M"),
    "dpm_karras": SchedulerEntry("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}, "DPM++ 2M Karras"),
    "unipc": SchedulerEntry("UniPCMultistepScheduler", {}, "UniPC"),
    "lcm": SchedulerEntry("LCMScheduler", {}, "LCM"),
}
"""Schedulers by name. heun calls the model twice a step; pndm is PLMS, as Stable Diffusion's own folders name it; dpm
is DPM-Solver++ 2M, and dpm_karras the same at the noise levels of arXiv 2206.00364; lcm is for models that were
distilled for it."""
SchedulerName = Literal["euler_a", "euler", "heun", "ddim", "ddpm", "pndm", "dpm", "dpm_karras", "unipc", "lcm"]

Group = Literal["Edit", "Quality and speed"]
Settings = TypeVar("Settings", bound="SamplingSettings")


@dataclass(frozen=True)
class Setting:
    """Description of a sampling setting, besides its type, range and default.

    Args:
        group: group of its option on the command line.
        help: meaning, one sentence.
        allowed: allowed values, in words.
        flags: options on the command line, the usual one first.
        web_ui_name: name of it in programs that show the parameters of pictures; empty if they do not have it.
        diffusers_name: argument of diffusers' pipelines that it corresponds to.
        speed: whether it trades exactness for speed.
    """

    group: Group
    help: str
    allowed: str
    flags: tuple[str, ...]
    web_ui_name: str = ""
    diffusers_name: str = ""
    speed: bool = False


def _speed(help: str, allowed: str, flag: str, diffusers_name: str = "") -> Setting:
    return Setting("Quality and speed", help, allowed, (flag,), diffusers_name=diffusers_name, speed=True)


class SamplingSettings(BaseModel):
    """Sampling settings that text-to-image models and editors have in common.

    The defaults of settings that trade exactness for speed are exact.

    Raises:
        ConfigError: a name is unknown, a value is out of range, or two values cannot be combined.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    steps: Annotated[
        int,
        Field(ge=1, le=1000),
        Setting("Quality and speed", "Denoising steps.", "1 to 1000", ("--steps",), "Steps", "num_inference_steps"),
    ] = 20
    scheduler: Annotated[
        SchedulerName,
        Setting(
            "Quality and speed", f"Scheduler: {', '.join(SCHEDULERS)}.", f"one of {', '.join(SCHEDULERS)}",
            ("--scheduler",), "Sampler",
        ),
    ] = "euler_a"  # fmt: skip
    resolution: Annotated[
        int | None,
        Field(ge=8, le=4096),
        Setting(
            "Quality and speed", "Long side of the picture that the model works on, in pixels.", "8 to 4096 pixels",
            ("--resolution",),
        ),
    ] = None  # fmt: skip
    text_every: Annotated[
        int,
        Field(ge=1, le=1000),
        _speed("Steps between computations of the text difference.", "1 to 1000 steps", "--text-every"),
    ] = 1
    tolerance: Annotated[
        float,
        Field(ge=0),
        _speed("Change at which a cached difference is recomputed; 0 is off.", "0 or more", "--tolerance"),
    ] = 0.0
    extrapolate: Annotated[
        float,
        Field(ge=0, le=1),
        _speed(
            "Share of its last change that is added to a cached difference at each step.", "0 to 1", "--extrapolate"
        ),
    ] = 0.0
    hold_after: Annotated[
        float,
        Field(ge=0, le=1),
        _speed("Share of the noise schedule after which differences are not recomputed.", "0 to 1", "--hold-after"),
    ] = 1.0
    guidance_start: Annotated[
        float, Field(ge=0, le=1), _speed("Share of the noise schedule at which guidance begins.", "0 to 1",
                                         "--guidance-start")
    ] = 0.0  # fmt: skip
    guidance_stop: Annotated[
        float, Field(ge=0, le=1), _speed("Share of the noise schedule at which guidance ends.", "0 to 1",
                                         "--guidance-stop")
    ] = 1.0  # fmt: skip
    rescale: Annotated[
        float,
        Field(ge=0, le=1),
        _speed(
            "Share by which guidance keeps the standard deviation of the prediction.", "0 to 1", "--rescale",
            "guidance_rescale",
        ),
    ] = 0.0  # fmt: skip
    reuse: Annotated[
        int,
        Field(ge=1, le=1000),
        _speed("Steps between runs of the whole UNet; between them its inner features are reused.", "1 to 1000 steps",
               "--reuse"),
    ] = 1  # fmt: skip

    @model_validator(mode="wrap")
    @classmethod
    def _explain(cls, values: Any, handler: Any) -> Any:
        """Turn a validation error into a ConfigError of one line."""
        if isinstance(values, Mapping):
            require_known(cls, values)
        try:
            made = handler(values)
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            name = str(fault["loc"][0])
            raise ConfigError(
                f"{name}={fault['input']!r} cannot be used",
                f"Give {name} as {describe(cls, name).allowed}",
                arguments=[name],
            ) from None
        if made.guidance_start > made.guidance_stop:
            raise ConfigError(
                f"guidance_start={made.guidance_start:g} is above guidance_stop={made.guidance_stop:g}",
                "Give guidance_start as at most guidance_stop",
                arguments=["guidance_start", "guidance_stop"],
            )
        if made.tolerance and made.reuse > 1:  # features are cached for whole batches, not row by row
            raise ConfigError(
                "tolerance and reuse cannot be combined", "Leave one of the two at its default",
                arguments=["tolerance", "reuse"],
            )  # fmt: skip
        return made

    def replace(self: Settings, **given: Any) -> Settings:
        """A copy with the given settings replaced; None leaves a setting unchanged.

        Raises:
            ConfigError: see the class.
        """
        return type(self)(**self.model_dump() | {name: value for name, value in given.items() if value is not None})

    def record(self, own: "SamplingSettings | None" = None) -> dict[str, Any]:
        """Return what a picture depends on, in the order in which it is recorded.

        Speed settings are left out where they are exact, here and in the model's own settings.

        Args:
            own: settings of the model itself.
        """
        shown = self.model_dump(exclude=set(SPEED_SETTINGS))
        if shown.get("keep_unchanged") is None:  # then it depends on the number of instructions
            shown.pop("keep_unchanged", None)
        first = {name: shown.pop(name) for name in ("text_scale", "image_scale", "scale") if name in shown}
        changed = {name for each in (self, own or self) for name in each.model_dump(exclude_defaults=True)}
        return first | shown | self.model_dump(include=changed & set(SPEED_SETTINGS))


class EditSettings(SamplingSettings):
    """Sampling settings of an editor. Any finite guidance scale is allowed, also below 1."""

    text_scale: Annotated[
        float,
        Setting(
            "Edit", "How strongly to follow the instruction (s_T), e.g. 7.5.", "a number such as 7.5",
            ("--text-scale", "--cfg-text"), "CFG scale", "guidance_scale",
        ),
    ] = 7.5  # fmt: skip
    image_scale: Annotated[
        float,
        Setting(
            "Edit", "How much of the picture to keep (s_I), e.g. 1.5.", "a number such as 1.5",
            ("--image-scale", "--cfg-image"), "Image CFG scale", "image_guidance_scale",
        ),
    ] = 1.5  # fmt: skip
    image_every: Annotated[
        int,
        Field(ge=1, le=1000),
        _speed("Steps between computations of the image difference.", "1 to 1000 steps", "--image-every"),
    ] = 1
    keep_unchanged: Annotated[
        bool | None,
        Setting(
            "Edit", "Restore the pixels that an edit did not change; the default for several instructions.",
            "true or false", ("--keep-unchanged",),
        ),
    ] = None  # fmt: skip


class GenerationSettings(SamplingSettings):
    """Sampling settings of a text-to-image model."""

    scale: Annotated[
        float,
        Setting(
            "Edit", "How strongly to follow the caption: the guidance scale, e.g. 7.5.", "a number such as 7.5",
            ("--scale",), "CFG scale", "guidance_scale",
        ),
    ] = 7.5  # fmt: skip
    strength: Annotated[
        float,
        Field(gt=0, le=1),
        Setting("Edit", "Share of the steps that is taken from a given picture.", "more than 0 and at most 1",
                ("--strength",)),
    ] = 0.7  # fmt: skip


def settings_of(kind: type[SamplingSettings]) -> dict[str, Setting]:
    """The descriptions of all settings of a class, by name."""
    return {name: describe(kind, name) for name in kind.model_fields}


def describe(kind: type[SamplingSettings], name: str) -> Setting:
    """The description of a setting."""
    return next(each for each in kind.model_fields[name].metadata if isinstance(each, Setting))


ALL_SETTINGS = {**settings_of(EditSettings), **settings_of(GenerationSettings)}
SPEED_SETTINGS = tuple(name for name, setting in ALL_SETTINGS.items() if setting.speed)
"""Settings that trade exactness for speed."""
PIPELINE_ARGUMENTS = {"generator": "seeds", "num_images_per_prompt": "samples", "prompt": "instructions"}
"""Arguments of diffusers' pipelines that are not settings here, with the names of ours."""


def require_known(kind: type[SamplingSettings], names: Iterable[str], also: Iterable[str] = ()) -> None:
    """Check that names are settings of a class.

    Args:
        kind: class of the settings.
        names: names given by the caller.
        also: other valid names to suggest, such as arguments of a function.

    Raises:
        ConfigError: a name is unknown; the error suggests one.
    """
    for name in names:
        if name in kind.model_fields:
            continue
        ours = {each.diffusers_name: key for key, each in settings_of(kind).items() if each.diffusers_name}
        theirs = ALL_SETTINGS[name].diffusers_name if name in ALL_SETTINGS else name  # of the other kind of model
        if theirs in ours or theirs in PIPELINE_ARGUMENTS:
            meant = ours.get(theirs) or PIPELINE_ARGUMENTS[theirs]
            raise ConfigError(f"there is no setting {name!r}", f"Here it is called {meant}", arguments=[meant])
        near = difflib.get_close_matches(name, [*kind.model_fields, *also], n=1)
        others = f"Give some of {', '.join(kind.model_fields)}"
        fix = f"Did you mean {near[0]}?" if near else others
        raise ConfigError(f"there is no setting {name!r}", fix, arguments=near)


class Preset(NamedTuple):
    """A named combination of settings.

    Args:
        settings: values by name.
        unet_rows: UNet rows of an edit that is guided at every step, with s_I and s_T different from 1 and each other.
        decibels: PSNR against the exact result of the same scheduler and steps; None if it is exact.
    """

    settings: dict[str, Any]
    unet_rows: int
    decibels: float | None

    @property
    def summary(self) -> str:
        """Cost and quality in a few words."""
        return f"{self.unet_rows} UNet rows, {f'{self.decibels:g} dB' if self.decibels else 'exact'}"


_EXACT: dict[str, Any] = {name: EditSettings.model_fields[name].default for name in SPEED_SETTINGS}
# Where in the noise schedule a model is guided is its own affair; what saves rows leaves that as it is.
_SAVING = {name: _EXACT[name] for name in _EXACT if name not in ("guidance_start", "guidance_stop", "rescale")}
_FEW_STEPS = {"scheduler": "dpm", "steps": 8, "text_every": 2, "image_every": 4, "reuse": 2}
PRESETS: dict[str, Preset] = {
    "exact": Preset(_EXACT, 60, None),
    "balanced": Preset({**_SAVING, "text_every": 3, "image_every": 6, "reuse": 2}, 31, 33.3),
    "fast": Preset({**_SAVING, **_FEW_STEPS}, 14, 27.3),
    "paper": Preset({**_EXACT, "scheduler": "euler_a", "steps": 100}, 300, None),
}
"""Presets by name. exact equals the pipeline of diffusers, balanced stays close to the model's own settings, fast is a
solver with few steps, and paper is the setting of arXiv 2211.09800. Decibels are those of six edits with the bundled
editor."""


def with_preset(kind: type[SamplingSettings], name: str | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Override the settings of a preset with the given ones that are not None.

    Raises:
        ConfigError: there is no such preset.
    """
    if name is not None and name not in PRESETS:
        raise ConfigError(f"there is no preset {name!r}", f"Give one of {', '.join(PRESETS)}")
    return select(kind, PRESETS[name].settings if name else {}) | {
        key: value for key, value in given.items() if value is not None
    }


def read_settings(folder: Path, scheduler_class: str) -> dict[str, Any]:
    """Read a model folder's own settings by name; unknown names are ignored.

    Args:
        folder: model folder.
        scheduler_class: name of the class of the folder's scheduler, used if the file names no scheduler.

    Raises:
        ModelError: the file is not readable, or a value is invalid.
    """
    path = folder / SETTINGS_FILE
    own = [name for name, entry in SCHEDULERS.items() if entry.diffusers_class == scheduler_class]
    found: dict[str, Any] = {"scheduler": own[0]} if own else {}
    try:
        given = json.loads(path.read_text()) if path.is_file() else {}
        found |= {name: value for name, value in given.items() if name in ALL_SETTINGS}
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{path} is not readable as a JSON object", "Correct it, or delete the file") from error
    try:
        for kind in (EditSettings, GenerationSettings):
            kind(**select(kind, found))
    except ConfigError as error:
        raise ModelError(f"{path}: {error.what}", "Correct it, or delete the file") from None
    return found


def select(kind: type[SamplingSettings], values: Mapping[str, Any]) -> dict[str, Any]:
    """Select the values that are settings of a class."""
    return {name: value for name, value in values.items() if name in kind.model_fields}
