"""Edits of scenes: one attribute changes, the layout stays, so that every edit has its exact target."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ip2p.seeding import derive_seed
from ip2p.storybook.language import caption, edited_caption, instruction, parse
from ip2p.storybook.phrases import UNSAID
from ip2p.storybook.scene import (
    ATTRIBUTES,
    EDIT_KINDS,
    RESERVED,
    Edit,
    Scene,
    Vocabulary,
    natural_layout,
    sample_scene,
    values,
)

_BY_ATTRIBUTE = {"building": "swap_building", "color": "recolor"}


@dataclass(frozen=True)
class Case:
    """An edit for the evaluation of an editor.

    Args:
        scene: scene before the edit.
        edit: change of one attribute.
        caption: caption of the scene.
        instruction: instruction for the edit.
        edited_caption: caption of the target, edited in place.
        is_rephrased: whether the instruction has a phrasing that training never sees.
    """

    scene: Scene
    edit: Edit
    caption: str
    instruction: str
    edited_caption: str
    is_rephrased: bool = False

    @property
    def target(self) -> Scene:
        """The exact scene after the edit."""
        return apply(self.scene, self.edit)


def possible_edits(
    attributes: Mapping[str, str], vocabulary: Vocabulary = "base", reserved: bool = False
) -> list[Edit]:
    """List every edit of one attribute, in the order of `ATTRIBUTES` and their values.

    Args:
        attributes: all attributes of a scene by name.
        vocabulary: vocabulary of the new values.
        reserved: whether to include the kind RESERVED.no_triple.
    """
    edits = [
        _edit(attributes, name, value)
        for name, allowed in values(vocabulary).items()
        for value in allowed
        if value != attributes[name]
    ]
    return [edit for edit in edits if reserved or edit.kind != RESERVED.no_triple]


def edit_to(scene: Scene, attribute: str, value: str) -> Edit:
    """The edit that gives an attribute of a scene another value."""
    return _edit(scene.attributes, attribute, value)


def edit_between(scene: Scene, edited: Scene) -> Edit:
    """The edit from a scene to another one that differs in one attribute."""
    name = next(name for name, value in edited.attributes.items() if value != scene.attributes[name])
    return edit_to(scene, name, edited.attributes[name])


def edit_between_captions(caption: str, edited_caption: str) -> Edit | None:
    """The edit from a caption in the storybook language to another one; None if there is not exactly one."""
    edits = edits_between_captions(caption, edited_caption)
    return edits[0] if len(edits) == 1 else None


def edits_between_captions(caption: str, edited_caption: str) -> list[Edit]:
    """List the edits from a caption in the storybook language to another one, one for each attribute that differs.

    What a caption does not name is as `UNSAID` says. There are none where one of the captions does not name a building
    and a place, or an attribute that the other one changes.
    """
    before, after = UNSAID | parse(caption), UNSAID | parse(edited_caption)
    changed = [name for name in ATTRIBUTES if before.get(name) != after.get(name)]
    both = before.keys() & after.keys()
    if not {"building", "place", *changed} <= both:
        return []
    return [_edit(before, name, after[name]) for name in changed]


def scene_of(named: Mapping[str, str], rng: random.Random) -> Scene:
    """A scene that a caption may describe; what the caption does not name is as `UNSAID` says.

    Args:
        named: attributes that the caption names, see `ip2p.storybook.language.parse`.
        rng: source of the layout, on which no sentence depends.
    """
    attributes = {name: allowed[0] for name, allowed in values("base").items()} | UNSAID | dict(named)
    return Scene(**attributes, layout=natural_layout(attributes, rng))


def _edit(attributes: Mapping[str, str], name: str, value: str) -> Edit:
    return Edit(_kind(name, attributes[name], value), name, value)


def _kind(attribute: str, old: str, new: str) -> str:
    if attribute not in ("animal", "sky"):
        return _BY_ATTRIBUTE.get(attribute, attribute)
    verb = "add" if old == "none" else "remove" if new == "none" else "swap"
    return f"{verb}_{attribute}"


def apply(scene: Scene, edit: Edit) -> Scene:
    """The scene after an edit; its layout stays."""
    changes: dict[str, str] = {edit.attribute: edit.value}
    return replace(scene, **changes)  # type: ignore[arg-type]  # the name of an attribute, never the layout


def evaluation_cases(count: int = 500, seed: int = 2024) -> list[Case]:
    """Make held-out scenes, each with an edit and its exact target; case k depends on the seed and k alone.

    The kinds of edit in triples alternate, and so do common and held-out phrasings of instructions, kind by kind.
    Captions are phrased as in training, because other methods draw from them.

    Args:
        count: number of cases.
        seed: seed of all random draws.
    """
    return [_case(seed, number) for number in range(count)]


def _case(seed: int, number: int) -> Case:
    rng = random.Random(derive_seed(seed, "evaluation", str(number)))
    kinds = [kind for kind in EDIT_KINDS if kind != RESERVED.no_triple]
    turn, place = divmod(number, len(kinds))
    options: list[Edit] = []
    while not options:
        scene = sample_scene(rng, "base", held_out=True)
        options = [edit for edit in possible_edits(scene.attributes) if edit.kind == kinds[place]]
    edit, text = rng.choice(options), caption(scene, rng)
    is_rephrased = turn % 2 == 1
    asked = instruction(edit, scene, rng, held_out=is_rephrased)
    return Case(scene, edit, text, asked, edited_caption(text, scene, edit), is_rephrased)
