"""Check by words whether an edited caption differs from its caption as the instruction says.

Added and removed words are compared with the words of the instruction. The rules know no grammar and accept in doubt:
what they refuse is mostly wrong, but what they accept is not always right.
"""

import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from ip2p.data_gen.triples.placement import misplaces
from ip2p.data_gen.triples.proposals import Proposal
from ip2p.data_gen.triples.slots import noun_phrases
from ip2p.data_gen.triples.wording import GENERIC, GENERIC_KEYS, STOP, content, inflected, related, rivals, words

UNASKED, UNASKED_ABSTRACT = 3, 5
"""Words that nobody asked for that an edit may bring at most: a new thing takes more words than its name."""
STUTTER = 2
"""Words that an edited caption says oftener than the caption did, from which it is not a sentence."""

_END = r"(?=$|[.,;:!?]|\b(?:from|and|with|but|of|on|in|at|or|so|then|behind|beside|between|out|off|away|down)\b)"
_GONE = r"(?:away|off|down|out)"
REMOVALS = tuple(
    re.compile(pattern)
    for pattern in (
        rf"\b(?:remove|delete|erase|get rid of|leave out|cut out|leave off|without|no(?! longer)) +(.+?) *{_END}",
        rf"\b(?:take|send|clear|shave|wipe) +{_GONE} +(?!from|of|to)(.+?) *{_END}",
        rf"\b(?:take|send|clear|shave|wipe) +(?!{_GONE}\b)([^.,;]+?) +{_GONE}\b",
        rf"\bmake +(.+?) +(?:disappear|vanish|go away)\b *{_END}",
    )
)
"""Phrasings that name what is to be removed."""
REPLACEMENTS = tuple(
    re.compile(pattern)
    for pattern in (
        r"\b(?:replace|swap|exchange|switch|substitute) +(?P<old>.+?) +(?:with|for|by|to|into) +(?P<new>.+)",
        rf"\b(?:turn|change|transform|convert|make) +.+? +(?:in)?to +(?P<new>.+?) *{_END}",
        rf"\bmake +(?:it|this|that|him|her|them) +(?:in)?(?:to +)?an? +(?P<new>.+?) *{_END}",
        r"(?P<new>.+?) +(?:instead|in place) of +(?P<old>.+)",
    )
)
"""Phrasings that name what is to be replaced, and by what."""
OF_A_THING = re.compile(r"\b(?:colou?rs?|material|style|size|shape)\b")
QUESTION = re.compile(r"(?:what|who|whose|where|when|why|how|which|is|are|was|were|does|do|did)\b(?!n't| not)")
WISH = re.compile(r"what if|(?:what|how) (?:would|could|might|about)")
ORDER = re.compile(
    r"(?:remove|add|make|let|put|turn|change|replace|give|take|get|have|delete|draw|set|move|swap|return|use|no)\b"
)
PRONOUNS = ("it", "him", "her", "them")
VERB_AND_THING = re.compile(
    rf"([a-z]+) (?:(?:up|down|off) )?({'|'.join(PRONOUNS)}|(?:the|his|her|its|their) [a-z' -]+?)(?: up| down| off)?"
)
"""An order whose verb says what happens to a thing."""
SPEECH = re.compile(
    r"\b(?:i|you|your|yours|my|we|our"
    r"|(?:turned|changed|transformed|converted|replaced|moved|added|removed|brought) (?:to|into|with|by|from))\b"
)
"""Words that belong in an instruction and not in a caption."""


class Change(NamedTuple):
    """Content words of a caption and of the edited caption, see `content`."""

    before: tuple[str, ...]
    after: tuple[str, ...]

    @property
    def added(self) -> list[str]:
        """Words that only the edited caption has."""
        return [word for word in dict.fromkeys(self.after) if word not in self.before]

    @property
    def removed(self) -> list[str]:
        """Words that only the caption has."""
        return [word for word in dict.fromkeys(self.before) if word not in self.after]


def disagrees(caption: str, proposal: Proposal) -> bool:
    """Return whether the edited caption shows another edit than the instruction, or the instruction is no edit.

    Abstract edits may use other words than the instruction, as long as half of the caption stays.
    """
    instruction = " ".join(proposal.instruction.lower().split())
    if QUESTION.match(instruction) and not WISH.match(instruction):
        return True
    if not _is_caption(proposal.edited_caption, caption):
        return True
    change = Change(content(caption), content(proposal.edited_caption))
    if not (_removes(instruction, change) and _replaces(instruction, change)):
        return True
    if misplaces(instruction, caption, proposal.edited_caption, proposal.kind):
        return True
    asked = asked_for(instruction)
    if proposal.kind == "abstract":
        return 2 * len(change.removed) > len(set(change.before)) or len(change.added) > UNASKED_ABSTRACT
    if verb := _own_verb(instruction, caption, proposal.edited_caption):
        asked = [word for word in asked if word != verb]
        return len(change.added) > UNASKED or not _shows(asked, change)
    return not (_is_grounded(asked, change) and _shows(asked, change))


def _own_verb(instruction: str, caption: str, edited: str) -> str:
    """Return the verb of an order like "drain the pool" or "wake him up" if both captions have its object; or "".

    What such a verb does is told by words that no list foresees: "an empty pool", "a yawning man".
    """
    match = VERB_AND_THING.fullmatch(instruction)
    if not match or match[1] in GENERIC or len(words(match[2])) > 2:
        return ""
    before, after = ([each.head for each in noun_phrases(text)] for text in (caption, edited))
    thing = before[0] if match[2] in PRONOUNS and before else inflected(words(match[2])[-1])
    return inflected(match[1]) if thing in before and thing in after else ""


def asked_for(instruction: str) -> list[str]:
    """Return the content words of an instruction."""
    named = (inflected(word) for word in words(instruction) if word not in STOP and word not in GENERIC)
    return list(dict.fromkeys(key for key in named if key not in GENERIC_KEYS))


def _is_caption(edited: str, caption: str) -> bool:
    """Return whether an edited caption describes a picture: no orders, no address of the reader, no repeated words."""
    before, after = caption.lower(), edited.lower().lstrip()
    if any(pattern(after) and not pattern(before) for pattern in (ORDER.match, SPEECH.search)):
        return False
    once, now = Counter(content(caption)), Counter(content(edited))
    return sum(count > max(1, once[word]) for word, count in now.items()) < STUTTER


def _removes(instruction: str, change: Change) -> bool:
    """Return whether the object to remove is gone. The last word of a phrase is its noun: "the red hat" is a hat."""
    phrases = (match[1] for pattern in REMOVALS for match in pattern.finditer(instruction))
    nouns = [named[-1] for phrase in phrases if (named := asked_for(phrase))]
    return all(_any_related([noun], change.removed) for noun in nouns)


def _replaces(instruction: str, change: Change) -> bool:
    """Return whether the new object is in the edited caption and the old one is not."""
    for pattern in REPLACEMENTS:
        if not (match := pattern.search(instruction)):
            continue
        groups = match.groupdict()
        old, asked = asked_for(groups.get("old") or ""), asked_for(groups["new"])
        new = [word for word in asked if word not in change.before]
        if new and not (_any_related(new, change.added) or _clears(new, change)):
            return False
        if OF_A_THING.search(groups.get("old") or ""):
            continue  # "switch the color of the hat to blue"
        going = [word for word in old if word in change.before and word not in asked]
        if going and not set(going) & set(change.removed):
            return False
        # "replace the animal" means the fox, but whoever speaks of a zebra and loses half of the words means no fox.
        if old and not _any_related(old, change.before) and 2 * len(change.removed) > len(set(change.before)):
            return False
    return True


def _is_grounded(asked: list[str], change: Change) -> bool:
    """Return whether a word of the instruction is related to an added or removed word."""
    return _any_related(asked, change.added + change.removed) or _clears(asked, change)


def _shows(asked: list[str], change: Change) -> bool:
    """Return whether the edited caption adds what is new in the instruction, and little else."""
    new = [word for word in asked if word not in change.before]
    if new and change.added and not (_any_related(new, change.after) or _clears(new, change)):
        return False
    return len([word for word in change.added if not _any_related(asked, [word])]) <= UNASKED


def _clears(asked: Iterable[str], change: Change) -> bool:
    """Return whether a rival of the requested value was removed and none was added: "make it clear" ends a storm."""
    return any(
        any(rivals(word, gone) for gone in change.removed) and not any(rivals(word, came) for came in change.added)
        for word in asked
    )


def _any_related(some: Iterable[str], others: Iterable[str]) -> bool:
    others = list(others)
    return any(related(one, other) for one in some for other in others)
