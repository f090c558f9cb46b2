"""build.json: the settings that a build was begun with, from which later commands read them again."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ip2p.builds import BUILD_FILE
from ip2p.config import load_config
from ip2p.data_gen.config import DatasetConfig
from ip2p.errors import DataError, reason

DEFAULT_CONFIG = "storybook_dataset.yaml"
LATER = {"pairs", "scores", "filter", "pack"}
"""Sections that text stages do not read. What is said of one there changes a setting of the default config, by which a
build goes on; other sections have the defaults of the code, since captions are seldom storybook's."""


def load_settings(
    config: str | None, overrides: Sequence[str] = (), *, default: str | None = DEFAULT_CONFIG, begun: bool = False
) -> DatasetConfig:
    """Load the settings of a build: those of a config, or those of its folder.

    A config that is named counts alone. If none is, a folder that is named by `out=` knows its own settings; the
    sections that it does not know yet are those of the default config.

    Args:
        config: path or name of a YAML file; None if none is named.
        overrides: `key=value` texts, which win over both.
        default: config that counts if none is named; None for the defaults of the code.
        begun: the settings are those of a build that has begun, whether its folder is named or is the default one.

    Raises:
        ConfigError: a key is unknown, or a value is invalid.
        DataError: the build.json of the folder is unreadable.
    """
    named = [each for each in overrides if each.partition("=")[0].strip() == "out"]
    sections: Mapping[str, Any] = {}
    if config is None and (named or begun):
        folder = Path(load_config(DatasetConfig, default, named).out)
        sections = read_sections(folder) if (folder / BUILD_FILE).exists() else {}
    if config is None and default is None:
        said = {each.partition(".")[0].strip() for each in overrides}
        bundled = load_config(DatasetConfig, DEFAULT_CONFIG).model_dump(
            mode="json", include=said & LATER, exclude_unset=True
        )
        sections = {**bundled, **sections}
    return load_config(DatasetConfig, config or default, overrides, sections=sections)


def read_build_file(out: Path) -> dict[str, Any]:
    """Read the settings that a build was started with, by dotted names.

    Raises:
        DataError: there is no build in the folder, or its settings are unreadable.
    """
    try:
        settings = dict(json.loads((out / BUILD_FILE).read_text()))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"there is no data set build in {out}", "Begin one with `ip2p dataset build`") from error
    except (OSError, ValueError, TypeError) as error:
        what = f"{out / BUILD_FILE} is unreadable ({reason(error, 80)})"
        raise DataError(what, "Copy it again from where it is whole: it has the settings of the build") from error
    return settings


def read_sections(out: Path) -> dict[str, Any]:
    """Read the settings of a build as sections of its config.

    Raises:
        DataError: there is no build in the folder.
    """
    return unflatten(read_build_file(out))


def unflatten(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sections of a config, of what build.json says by dotted names."""
    sections: dict[str, Any] = {}
    for key, value in settings.items():
        *parents, last = key.split(".")
        if (parents or last in DatasetConfig.model_fields) and not is_origin(key):
            inner = sections
            for parent in parents:
                inner = inner.setdefault(parent, {})
            inner[last] = value
    return sections


def read_origins(out: Path) -> dict[str, str]:
    """Read the origins of a build, so that it can be filtered again without its models."""
    return {key: value for key, value in read_build_file(out).items() if is_origin(key)}


def is_origin(key: str) -> bool:
    """Return whether a key of build.json is the hash of something that the settings name."""
    return key.endswith(")")


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings into a dictionary with dotted names."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
