"""Load the config of a run from YAML and `key=value`: frozen and validated.

Every field has a description; an unknown key is an error that names the nearest known one. The config classes are
in the packages that read them: `ip2p.data_gen.config` and `ip2p.train.config`.
"""

import copy
import difflib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from ip2p.errors import ConfigError, reason

M = TypeVar("M", bound=BaseModel)


class Config(BaseModel):
    """Base class of all configs: immutable, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def load_config(
    model: type[M],
    source: str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    sections: Mapping[str, Any] | None = None,
) -> M:
    """Read a config from YAML, override single values, and validate it.

    Args:
        model: class of the config.
        source: path of a YAML file, name of a bundled one with or without its ending, or None for defaults.
        overrides: `key=value` texts such as ["pairs.steps=10", "seed=3"]; values are YAML without comments.
        sections: values of whole sections, such as {"pairs": {"steps": 10}}, in place of those in the file.

    Raises:
        ConfigError: the file is missing or not YAML, a key is unknown, or a value is invalid.
    """
    values = (_read(source) if source is not None else {}) | copy.deepcopy(dict(sections or {}))
    for override in overrides:
        _override(values, override)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _explain(error, model, _find_place(error, source, overrides, sections or {})) from None


def bundled_configs() -> list[str]:
    """Names of the configs that come with ip2p."""
    return sorted(entry.name for entry in files("ip2p.configs").iterdir() if entry.name.endswith(".yaml"))


def _read(source: str | Path) -> dict[str, Any]:
    """Read the mapping in a YAML file."""
    path, name = Path(source), f"{str(source).removesuffix('.yaml')}.yaml"
    if not path.is_file() and name not in bundled_configs():
        raise ConfigError(
            f"there is no config file {source}",
            f"Give the path of one, or a bundled name: {', '.join(bundled_configs())}",
        )
    try:
        text = path.read_text() if path.is_file() else files("ip2p.configs").joinpath(name).read_text()
        values = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(
            f"cannot read the config {source} ({reason(error)})", "Write it as YAML, one `key: value` a line"
        ) from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"the config {source} is not a mapping", "Write it as YAML, one `key: value` a line")
    return values


def _override(values: dict[str, Any], override: str) -> None:
    """Set the value at a dotted key, as in "a.b=c"."""
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"cannot use {override!r} as a setting", "Write key=value, such as seed=3 or pairs.steps=10")
    *parents, last = key.strip().split(".")
    for parent in parents:
        inner = values.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{parent} in {override!r} has no settings inside it", f"Write {parent}=value")
        values = inner
    values[last] = _parse(text)


def _parse(text: str) -> Any:
    """Read the value of a setting as YAML; if it is none, or YAML would take its end for a comment, it is the text."""
    try:
        tokens = [token for token in yaml.scan(text) if token.start_mark.index < token.end_mark.index]
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):  # ValueError: what looks like a date and is none
        return text
    end = max((token.end_mark.index for token in tokens), default=0)
    return text.strip() if "#" in text[end:] else value


def _find_place(
    error: ValidationError, source: str | Path | None, overrides: Sequence[str], sections: Mapping[str, Any]
) -> str:
    """Name where the first error is: in the values of a `key=value`, of a folder's sections, or of the config."""
    location = [str(part) for part in error.errors(include_url=False)[0]["loc"]]
    named = [override.partition("=")[0].strip().split(".") for override in overrides]
    if any(keys == location[: len(keys)] for keys in named):
        return "given settings"
    place = f"config {source}" if source is not None else "config"
    if location and location[0] in sections:
        place = "settings of the folder"
    inside = [text for text, keys in zip(overrides, named, strict=True) if location == keys[: len(location)]]
    return f"{place} with {' '.join(inside)}" if location and inside else place


def _explain(error: ValidationError, model: type[BaseModel], place: str) -> ConfigError:
    """Describe the first error of a config, with its fix."""
    fault = error.errors(include_url=False)[0]
    location = fault["loc"]
    key = ".".join(str(part) for part in location) or "it"
    others = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if fault["type"] == "extra_forbidden":
        parent = _model_at(model, location[:-1])
        known = sorted(parent.model_fields) if parent else []
        nearest = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
        path = ".".join(str(part) for part in (*location[:-1], *nearest))
        fix = f"Did you mean {path}?" if nearest else f"Known are: {', '.join(known)}"
        return ConfigError(f"unknown key {key} in the {place}{others}", fix)
    said = fault["msg"].removeprefix("Value error, ")
    given = fault["input"]
    value = "" if isinstance(given, Mapping | BaseModel) else f"={given!r}"
    parent = _model_at(model, location[:-1])
    field = parent.model_fields.get(str(location[-1])) if parent and location else None
    fix = (
        f"Give {key} another value ({field.description})"
        if field and field.description
        else "Change it there, or by key=value"
    )
    return ConfigError(f"{key}{value} in the {place} is wrong: {said[0].lower()}{said[1:]}{others}", fix)


def _model_at(model: type[BaseModel], location: Sequence[str | int]) -> type[BaseModel] | None:
    """The class of the settings at a location inside a config."""
    inner: Any = model
    for part in location:
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            field = inner.model_fields.get(str(part))
            inner = field.annotation if field else None
        else:  # dict[str, Settings]: the part is a key of it
            inner = get_args(inner)[-1] if get_args(inner) else None
    return inner if isinstance(inner, type) and issubclass(inner, BaseModel) else None
