"""Combinations of sampling settings that are refused: most of them leave a setting nothing to do.

What a setting does beside others is in `ip2p/diffusion/guidance_cache.py`. A guidance scale or a number of steps at
which there is nothing to save is no such combination: these are varied while all else stays.
"""

from collections.abc import Mapping
from typing import Any

from ip2p.errors import ConfigError

ONE_ALONE = "Leave one of the two at its default"


def require_combinable(values: Mapping[str, Any], changed: Mapping[str, Any]) -> None:
    """Check that settings can be combined, and that none changes nothing because of another.

    Args:
        values: all settings by name, each in its range.
        changed: those of them that differ from their defaults.

    Raises:
        ConfigError: two settings cannot be combined, or one changes nothing beside another.
    """
    start, stop, hold = (values[name] for name in ("guidance_start", "guidance_stop", "hold_after"))
    if start > stop:
        raise ConfigError(
            f"guidance_start={start:g} is above guidance_stop={stop:g}",
            "Give guidance_start as at most guidance_stop", arguments=["guidance_start", "guidance_stop"],
        )  # fmt: skip
    if "tolerance" in changed and "reuse" in changed:  # features are cached for whole batches, not row by row
        raise ConfigError("tolerance and reuse cannot be combined", ONE_ALONE, arguments=["tolerance", "reuse"])
    cached = [name for name in ("text_every", "image_every", "tolerance") if name in changed]
    if "tolerance" in changed and len(cached) > 1:  # it chooses the steps in their place
        _refuse(values, cached[0], "tolerance")
    if "extrapolate" in changed and not cached and hold == 1:
        raise ConfigError(
            f"extrapolate={values['extrapolate']:g} changes nothing where differences are computed at every step",
            "Give text_every, too, or leave extrapolate at its default", arguments=["extrapolate", "text_every"],
        )  # fmt: skip
    if stop < hold < 1:
        _refuse(values, "hold_after", "guidance_stop")
    idle = [*cached, *(["extrapolate"] if "extrapolate" in changed else [])]
    if idle and hold <= start and hold < 1:  # each difference is computed at the first guided step, and held from there
        _refuse(values, idle[0], "hold_after")
    text, image = values["text_every"], values.get("image_every", values["text_every"])
    if text > image and values["image_scale"] != 1:  # the image difference takes the branches of both
        raise ConfigError(
            f"text_every={text} acts as {image}, since both differences are computed where image_every={image} is due",
            f"Give image_every as {text} or more", arguments=["text_every", "image_every"],
        )  # fmt: skip


def _refuse(values: Mapping[str, Any], name: str, other: str) -> None:
    """Refuse a setting that changes nothing beside another."""
    raise ConfigError(
        f"{name}={values[name]:g} changes nothing beside {other}={values[other]:g}", ONE_ALONE, arguments=[name, other]
    )
