"""How a model is run, unless told otherwise: `ip2p.json` in a model folder, and what a caller replaces of it."""

import json
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ip2p.errors import ConfigError, ModelError

FILE = "ip2p.json"
SchedulerName = Literal["euler_a", "euler", "ddim", "dpm"]
SCHEDULERS: tuple[str, ...] = get_args(SchedulerName)


class Settings(BaseModel):
    """Checked settings of sampling; a model folder's `ip2p.json` holds those that differ from the ones here.

    text_scale and image_scale steer an editor, scale a text-to-image model. Any finite number is allowed, also below 1.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    text_scale: float = Field(default=7.5, description="a number such as 7.5")
    image_scale: float = Field(default=1.5, description="a number such as 1.5")
    scale: float = Field(default=7.5, description="a number such as 7.5")
    strength: float = Field(default=0.7, gt=0, le=1, description="more than 0 and at most 1")
    steps: int = Field(default=20, ge=1, le=1000, description="1 to 1000")
    scheduler: SchedulerName = Field(default="euler_a", description=f"one of {', '.join(SCHEDULERS)}")
    resolution: int | None = Field(default=None, ge=8, le=4096, description="8 to 4096 pixels")

    def replaced(self, **given: Any) -> "Settings":
        """These settings with others in place of those given; None leaves one as it is.

        Raises:
            ConfigError: a value is out of range.
        """
        known = {name: value for name, value in given.items() if value is not None}
        try:
            return Settings.model_validate(self.model_dump() | known)
        except ValidationError as error:
            name, value = _first_fault(error)
            fix = f"Give {name} as {Settings.model_fields[name].description}"
            raise ConfigError(f"{name}={value!r} cannot be used", fix) from None


def read_settings(folder: Path) -> Settings:
    """Settings of a model folder; the defaults where it has none.

    Raises:
        ModelError: the file is there and makes no sense.
    """
    path = folder / FILE
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
