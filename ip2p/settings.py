"""Settings of sampling: a model's own from `ip2p.json` in its folder, and what a caller replaces of them."""

import json
from pathlib import Path
from typing import Any, Literal, TypedDict, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ip2p.errors import ConfigError, ModelError

SETTINGS_FILE = "ip2p.json"
SchedulerName = Literal["euler_a", "euler", "heun", "ddim", "ddpm", "dpm", "dpm_karras", "unipc", "lcm"]
SCHEDULERS: tuple[str, ...] = get_args(SchedulerName)


class Options(TypedDict, total=False):
    """Settings by name, for functions that take any of them; None leaves one as it is. See Settings."""

    text_scale: float | None
    image_scale: float | None
    scale: float | None
    strength: float | None
    steps: int | None
    scheduler: str | None
    resolution: int | None
    text_every: int | None
    image_every: int | None
    tolerance: float | None
    extrapolate: float | None
    hold_after: float | None
    guidance_start: float | None
    guidance_stop: float | None
    rescale: float | None
    reuse: int | None


class Settings(BaseModel):
    """Checked settings of sampling; a model folder's `ip2p.json` holds those that differ from the ones here.

    text_scale and image_scale steer an editor, scale a text-to-image model. Any finite number is allowed, also below 1.
    What follows resolution trades exactness for speed, as guidance, its cache and the feature cache in `ip2p.diffusion`
    say; the values that stand here are exact.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    text_scale: float = Field(default=7.5, description="a number such as 7.5")
    image_scale: float = Field(default=1.5, description="a number such as 1.5")
    scale: float = Field(default=7.5, description="a number such as 7.5")
    strength: float = Field(default=0.7, gt=0, le=1, description="more than 0 and at most 1")
    steps: int = Field(default=20, ge=1, le=1000, description="1 to 1000")
    scheduler: SchedulerName = Field(default="euler_a", description=f"one of {', '.join(SCHEDULERS)}")
    resolution: int | None = Field(default=None, ge=8, le=4096, description="8 to 4096 pixels")
    text_every: int = Field(default=1, ge=1, le=1000, description="1 to 1000 steps")
    image_every: int = Field(default=1, ge=1, le=1000, description="1 to 1000 steps")
    tolerance: float = Field(default=0.0, ge=0, description="0 or more")
    extrapolate: float = Field(default=0.0, ge=0, le=1, description="0 to 1")
    hold_after: float = Field(default=1.0, ge=0, le=1, description="0 to 1")
    guidance_start: float = Field(default=0.0, ge=0, le=1, description="0 to 1")
    guidance_stop: float = Field(default=1.0, ge=0, le=1, description="0 to 1")
    rescale: float = Field(default=0.0, ge=0, le=1, description="0 to 1")
    reuse: int = Field(default=1, ge=1, le=1000, description="1 to 1000 steps")

    def replace(self, **given: Any) -> "Settings":
        """These settings with others in place of those given; None leaves one as it is.

        Raises:
            ConfigError: a value is out of range.
        """
        known = {name: value for name, value in given.items() if value is not None}
        if unknown := [name for name in known if name not in Settings.model_fields]:
            raise ConfigError(f"there is no setting {unknown[0]!r}", f"Give some of {', '.join(Settings.model_fields)}")
        try:
            made = Settings.model_validate(self.model_dump() | known)
        except ValidationError as error:
            name, value = _first_fault(error)
            fix = f"Give {name} as {Settings.model_fields[name].description}"
            raise ConfigError(f"{name}={value!r} cannot be used", fix) from None
        if made.tolerance and made.reuse > 1:  # features are kept for whole batches, and there each row has its own way
            raise ConfigError("tolerance and reuse do not go together", "Leave one of the two at its default")
        return made


SPEED_SETTINGS = (
    "text_every", "image_every", "tolerance", "extrapolate", "hold_after", "guidance_start", "guidance_stop", "rescale",
    "reuse",
)  # fmt: skip
"""Settings that trade exactness for speed."""
_EXACT: dict[str, Any] = {name: Settings.model_fields[name].default for name in SPEED_SETTINGS}
PRESETS: dict[str, dict[str, Any]] = {
    "exact": _EXACT,
    "balanced": {**_EXACT, "text_every": 3, "image_every": 6, "reuse": 2},
    "fast": {**_EXACT, "scheduler": "dpm", "steps": 8, "text_every": 2, "image_every": 4, "reuse": 2},
    "paper": {**_EXACT, "scheduler": "euler_a", "steps": 100},
}
"""Settings that go together. exact is what the pipeline of diffusers draws, balanced stays close to it, fast is a
solver of few steps, and paper what arXiv 2211.09800 used. docs/editing.md has what each costs and keeps."""


def preset_options(name: str | None, given: Options) -> Options:
    """The settings of a preset, and in their place those that are given.

    Raises:
        ConfigError: there is no such preset.
    """
    if name is not None and name not in PRESETS:
        raise ConfigError(f"there is no preset {name!r}", f"Give one of {', '.join(PRESETS)}")
    known: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    return Options(**{**(PRESETS[name] if name else {}), **known})  # type: ignore[typeddict-item]


def read_settings(folder: Path) -> Settings:
    """Settings of a model folder; the defaults where it has none.

    Raises:
        ModelError: the file is there and makes no sense.
    """
    path = folder / SETTINGS_FILE
    if not path.is_file():
        return Settings()
    try:
        return Settings.model_validate(json.loads(path.read_text()))
    except ValidationError as error:
        name, value = _first_fault(error)
        raise ModelError(f"{path} says {name}={value!r}", "Correct it, or delete the file") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} is not readable as JSON", "Correct it, or delete the file") from error


def _first_fault(error: ValidationError) -> tuple[str, Any]:
    fault = error.errors(include_url=False)[0]
    return str(fault["loc"][0]) if fault["loc"] else "it", fault["input"]
