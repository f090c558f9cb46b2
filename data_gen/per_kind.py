"""Settings of a config that differ by the kind of edit."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import Field

from ip2p.config import Config
from ip2p.data_gen.kinds import ALL_KINDS, explain_unknown, general_kind


class Ranges(Config):
    """Ranges of the share p and of the guidance scale for one kind of edit; null leaves a bound as for all kinds."""

    p_min: float | None = Field(default=None, ge=0, le=1, description="in place of pairs.p_min")
    p_max: float | None = Field(default=None, ge=0, le=1, description="in place of pairs.p_max")
    cfg_min: float | None = Field(default=None, ge=0, description="in place of pairs.cfg_min")
    cfg_max: float | None = Field(default=None, ge=0, description="in place of pairs.cfg_max")


def of_kind(per_kind: Mapping[str, Config], kind: str) -> dict[str, Any]:
    """Return what is set for a kind of edit: by itself, or else by its general kind."""
    found: dict[str, Any] = {}
    for each in (general_kind(kind), kind):
        if each in per_kind:
            found |= per_kind[each].model_dump(exclude_none=True)
    return found


def require_known(kinds: Iterable[str]) -> None:
    """Check that all kinds are in the taxonomy.

    Raises:
        ValueError: one is not.
    """
    for kind in kinds:
        if kind not in ALL_KINDS:
            raise ValueError(explain_unknown(kind))
