"""Checks of every triple, by itself and against all kept triples."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache

from ip2p.data_gen.config import ChecksConfig
from ip2p.data_gen.triples.agreement import asked_for, disagrees
from ip2p.data_gen.triples.grammar import find_breaks
from ip2p.data_gen.triples.moderation import is_improper
from ip2p.data_gen.triples.near_duplicates import NearIndex, hash64, shingles
from ip2p.data_gen.triples.proposals import Proposal
from ip2p.data_gen.triples.tokens import estimate_tokens
from ip2p.data_gen.triples.wording import GENERIC, GENERIC_KEYS, STOP, content, is_medium, words
from ip2p.records import Reason

REPEAT_SIMILARITY = 0.8
"""Jaccard similarity of the words of an instruction and a caption from which the one is the other."""
FREE_WORDS = 2
"""Words that an edit may change of any caption: "a red barn" may become a blue castle."""
CHANGE_WEIGHT = 2
"""Weight of a changed word in the search for near duplicates: two edits of one long caption are two triples."""
MIN_TRIPLES = 50
"""Number of triples from which the share of each kind is limited."""

LATIN_SHARE = 0.85
"""Least share of a text's letters that are a to z."""
_FOREIGN = (
    "der die das und ein eine einen einem einer mit im am auf ist nicht vom zum zur aus bei unter "
    "les une et dans sur avec sous des est pour aux qui sans las una con y en por para sobre bajo del muy sin "
    "il lo gli uno di nel nella della sul sulla alla per che um uma com em na ao dos das ob sob "
    "het een van met op naar aan niet zijn och med av ett til og"
)
FOREIGN = frozenset(_FOREIGN.split()) - STOP - GENERIC
"""Function words of German, Romance, Dutch and Nordic languages, and of no English caption."""


def find_fault(
    caption: str, proposal: Proposal, checks: ChecksConfig, *, count_tokens: Callable[[str], int] = estimate_tokens
) -> Reason:
    """Return the first reason to refuse a triple, or Reason.OK; a proposal's own reason comes first.

    The reasons are, in order: empty, unchanged, near_unchanged (but for word order, forms and function words),
    instruction_is_caption, drift (too little of the caption is left), too_long, wrong_language, ungrammatical (or
    cut off), disagrees (another edit than the instruction says), moderated.

    Args:
        caption: caption before the edit.
        proposal: instruction and edited caption.
        checks: limits.
        count_tokens: function that counts tokens of the text encoder, including start and end.
    """
    instruction, edited = proposal.instruction, proposal.edited_caption
    texts = (caption, instruction, edited)
    if proposal.reason is not Reason.OK:
        return proposal.reason
    if not all(words(text) for text in texts):
        return Reason.EMPTY
    if normalise(edited) == normalise(caption):
        return Reason.UNCHANGED
    if set(content(edited)) == set(content(caption)):
        return Reason.NEAR_UNCHANGED
    if _repeats(instruction, caption, edited):
        return Reason.IS_CAPTION
    if _drifts(caption, edited, checks.kept):
        return Reason.DRIFT
    if any(len(text.split()) > checks.max_words or count_tokens(text) > checks.max_tokens for text in texts):
        return Reason.TOO_LONG
    if not is_english(*texts):
        return Reason.WRONG_LANGUAGE
    if find_breaks(edited) - find_breaks(caption):
        return Reason.UNGRAMMATICAL
    if disagrees(caption, proposal):
        return Reason.DISAGREES
    return Reason.MODERATED if checks.moderation != "none" and is_improper(*texts) else Reason.OK


def find_text_fault(text: str, checks: ChecksConfig, *, count_tokens: Callable[[str], int] = estimate_tokens) -> Reason:
    """Return the reason to refuse a text by itself: empty, too_long, wrong_language, moderated; or Reason.OK."""
    if not words(text):
        return Reason.EMPTY
    if len(text.split()) > checks.max_words or count_tokens(text) > checks.max_tokens:
        return Reason.TOO_LONG
    if not is_english(text):
        return Reason.WRONG_LANGUAGE
    return Reason.MODERATED if checks.moderation != "none" and is_improper(text) else Reason.OK


def normalise(text: str) -> str:
    """Normalize case, spaces and closing marks, which make no difference to a picture."""
    return " ".join(text.lower().split()).strip(" .!?")


def is_english(*texts: str) -> bool:
    """Return whether texts are English, judging by letters and function words; names or nouns alone pass."""
    letters = [sign for text in texts for sign in text if sign.isalpha()]
    if sum(sign.isascii() for sign in letters) < LATIN_SHARE * len(letters):
        return False
    seen = [words(text) for text in texts]
    return not any(map(_is_foreign, (*seen, sum(seen, []))))


class TripleSet:
    """The triples kept so far, and a check of new triples against them.

    Triples that differ only in function words, word forms or marks are duplicates. Those that differ in one visible
    thing are not, unless the captions are very long.

    Args:
        checks: limits. Kinds that have more than `kind_share` of what is kept wait until the others have caught up, so
            it should be above one in the number of kinds that come.
    """

    def __init__(self, checks: ChecksConfig) -> None:
        self.checks = checks
        self._exact: set[int] = set()
        self._near = NearIndex(checks.near_duplicate)
        self._kinds: Counter[str] = Counter()

    def fault(self, caption: str, proposal: Proposal) -> Reason:
        """Return the reason to refuse a triple: duplicate, near_duplicate or kind_full; or Reason.OK."""
        if _identity(caption, proposal) in self._exact:
            return Reason.DUPLICATE
        if features(caption, proposal) in self._near:
            return Reason.NEAR_DUPLICATE
        total = self._kinds.total()
        full = total >= MIN_TRIPLES and self._kinds[proposal.kind] > self.checks.kind_share * total
        return Reason.KIND_FULL if full else Reason.OK

    def add(self, caption: str, proposal: Proposal) -> None:
        """Add a triple without checking it."""
        self._exact.add(_identity(caption, proposal))
        self._near.add(features(caption, proposal))
        self._kinds[proposal.kind] += 1


def _identity(caption: str, proposal: Proposal) -> int:
    """Hash a triple to a number in [0, 2^64), the same for duplicates."""
    return hash64("\n".join(normalise(text) for text in (caption, proposal.instruction, proposal.edited_caption)))


@lru_cache(maxsize=4)
def features(caption: str, proposal: Proposal) -> frozenset[int]:
    """Return hashed features of a triple, for the Jaccard similarity of two triples.

    They are shingles of the kept, the removed and the added words, each by itself so that an edit differs from its
    inverse, and the content words of the instruction. Cached between `fault` and `add`.
    """
    before, after = shingles(content(caption)), shingles(content(proposal.edited_caption))
    stays = [f"={each}" for each in before & after]
    changes = [f"-{each}" for each in before - after] + [f"+{each}" for each in after - before]
    changes += [f"!{each}" for each in asked_for(proposal.instruction)]
    return frozenset(map(hash64, [*stays, *(f"{copy}{each}" for each in changes for copy in range(CHANGE_WEIGHT))]))


def _repeats(instruction: str, caption: str, edited: str) -> bool:
    """Return whether an instruction is one of the captions, or describes the caption as it is."""
    if normalise(instruction) in (normalise(caption), normalise(edited)):
        return True
    said, before, after = set(content(instruction)), set(content(caption)), set(content(edited))
    asked = said - GENERIC_KEYS
    repeated = len(before) > 1 and _overlaps(asked, before - GENERIC_KEYS)
    return repeated or (min(len(said), len(after)) > 1 and _overlaps(said, after))


def _overlaps(some: set[str], others: set[str]) -> bool:
    return bool(some) and len(some & others) >= REPEAT_SIMILARITY * len(some | others)


def _drifts(caption: str, edited: str, kept: float) -> bool:
    """Return whether too few words of the caption are left, apart from those of its medium."""
    before = {word for word in content(caption) if not is_medium(word)}
    lost = len(before - set(content(edited)))
    return lost > max(FREE_WORDS, (1 - kept) * len(before))


def _is_foreign(seen: Sequence[str]) -> bool:
    """Return whether more function words are foreign than English. A single one is no proof: "Costa del Sol"."""
    foreign = sum(word in FOREIGN for word in seen)
    return foreign > max(1, sum(word in STOP or word in GENERIC for word in seen))
