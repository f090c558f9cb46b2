"""Write triples by rules: free and deterministic."""

import random
from collections import Counter
from collections.abc import Sequence

from ip2p.data_gen.triples.proposals import Message, Proposal
from ip2p.data_gen.writers.rules.english import english_edits
from ip2p.records import Caption, Reason
from ip2p.seeding import derive_seed
from ip2p.storybook.edits import apply, edit_to, possible_edits, scene_of
from ip2p.storybook.language import edited_caption, instruction, parse
from ip2p.storybook.scene import Edit, Scene, is_held_out, values

SAID_ALWAYS = frozenset({"building", "color", "place", "season", "time"})
"""Attributes that every caption in the storybook language names, and few others do."""


class RuleWriter:
    """Writes edits by rules: those of the storybook language where a caption is in it, else those of any English.

    Kinds of edit are balanced: a caption gets the possible kind that is rarest so far in its shard.

    Args:
        seed: seed of the run; the draws for a caption follow from it, the caption, and the captions before it in its
            shard.
    """

    name = "rules"

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def prepare(self, captions: Sequence[Caption], count: int) -> None:
        """Do nothing."""

    def conversation(self, caption: Caption, count: int) -> tuple[list[Message], str]:
        """Return nothing, since rules use no language model."""
        return [], ""

    def close(self) -> None:
        """Do nothing."""

    def write(self, captions: Sequence[Caption], count: int) -> list[list[Proposal]]:
        """Return up to `count` edits for each caption; one refused proposal if no rule applies."""
        seen: Counter[str] = Counter()
        return [self._write(caption, count, seen) or [Proposal(reason=Reason.NO_RULE)] for caption in captions]

    def _write(self, caption: Caption, count: int, seen: Counter[str]) -> list[Proposal]:
        rng = random.Random(derive_seed(self.seed, "triples", caption.id))
        options = storybook_edits(caption.text, rng) or english_edits(caption.text, rng)
        chosen: list[Proposal] = []
        while options and len(chosen) < count:
            least = min(seen[proposal.kind] for proposal in options)
            kind = rng.choice(sorted({proposal.kind for proposal in options if seen[proposal.kind] == least}))
            chosen.append(rng.choice([proposal for proposal in options if proposal.kind == kind]))
            options.remove(chosen[-1])
            seen[kind] += 1
        return chosen


def storybook_edits(text: str, rng: random.Random) -> list[Proposal]:
    """Return all edits of a caption in the storybook language, except held-out ones; none of any other text."""
    named = parse(text)
    if not named.keys() >= SAID_ALWAYS:
        return []
    scene = scene_of(named, rng)
    return [
        Proposal(
            instruction(edit, scene, rng),
            edited_caption(text, scene, edit),
            edit.kind,
            inverse=_undo(edit, scene, text),
        )
        for edit in possible_edits(scene.attributes)
        if not is_held_out(scene.attributes | {edit.attribute: edit.value})
    ]


def _undo(edit: Edit, scene: Scene, text: str) -> str:
    """Write the instruction of the inverse edit; "" where no triple may ask for it.

    It has a generator of its own, so that other draws are the same with and without it.
    """
    after, old = apply(scene, edit), scene.attributes[edit.attribute]
    if old not in values("base")[edit.attribute]:
        return ""
    return instruction(
        edit_to(after, edit.attribute, old), after, random.Random(f"{text} {edit.attribute} {edit.value}")
    )
