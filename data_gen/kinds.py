"""The one taxonomy of kinds of edit, for all writers, checks, thresholds and reports.

A kind is general, such as "swap", or one of storybook's, such as "swap_building", which belongs to a general one.
"""

import difflib

KINDS = (
    "swap", "add", "remove", "color", "style", "season", "weather", "time", "place", "material", "expression",
    "abstract",
)  # fmt: skip
"""General kinds, by what changes. "abstract" is a mood or a concept, such as "make it feel lonely"."""
OTHER = "other"
"""The kind of an edit of which nothing else is known."""
STORYBOOK_KINDS = {
    "clouds": "weather", "swap_building": "swap", "recolor": "color", "roof": "color", "door": "color",
    "add_animal": "add", "remove_animal": "remove", "swap_animal": "swap", "add_sky": "add", "remove_sky": "remove",
    "swap_sky": "swap",
}  # fmt: skip
"""Kinds of storybook that are no general ones, with the general kind of each."""
ALL_KINDS = (*KINDS, *STORYBOOK_KINDS, OTHER)

_INVERSE = {
    "add": "remove", "remove": "add", "add_animal": "remove_animal", "remove_animal": "add_animal",
    "add_sky": "remove_sky", "remove_sky": "add_sky",
}  # fmt: skip


def general_kind(kind: str) -> str:
    """Return the general kind that a kind belongs to: "swap" of "swap_building", and of "swap" itself."""
    return STORYBOOK_KINDS.get(kind, kind)


def known_kind(kind: str) -> str:
    """Return a kind of the taxonomy as it is, and "other" for any other word."""
    return kind if kind in ALL_KINDS else OTHER


def inverse_kind(kind: str) -> str:
    """Return the kind of the edit that undoes one of this kind."""
    return _INVERSE.get(kind, kind)


def explain_unknown(kind: str) -> str:
    """Return words about a kind that does not exist, with the nearest one or all of them."""
    nearest = difflib.get_close_matches(kind, ALL_KINDS, n=1)
    return f"there is no kind {kind!r}; " + (f"did you mean {nearest[0]!r}?" if nearest else f"{', '.join(ALL_KINDS)}")
