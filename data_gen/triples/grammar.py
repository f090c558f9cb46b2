"""The little grammar that needs no parser: articles, and sentences that are cut off or have words that cannot meet."""

import re
import unicodedata
from collections import Counter

TOKEN = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*|[,.;:!?]")

_SILENT_H = re.compile(r"(?:hour|honest|honou?r|heir)")
_LIKE_YOU_OR_ONE = re.compile(
    r"(?:uni(?!n|m[bp]|d)|u[ks]$|use|usu|ut[eio]|ur[aeiou]|ubi|uku|ufo|eu|ewe|one(?!ir)|once)"
)
_EITHER = re.compile(r"(?:herb|histor|hotel|habitual|hilari|hallucin|heroic)")
_EIGHT = re.compile(r"(?:8\d*|11|18)(?!\d)")

_LITTLE = "the and or but of with at into from for to is are was were".split()
COUNTS = frozenset("two three four five six seven eight nine ten several many".split())
"""Words that only plurals follow."""
DANGLING = frozenset(_LITTLE) | frozenset(
    "a an its his their my your our some very than wearing holding carrying featuring including containing between "
    "among against toward towards during despite without upon beside onto as via every each".split()
)
"""Words that no sentence ends with."""
PREPOSITIONS = frozenset(
    "of with at in on by to from for into onto under over near behind beside above below against through across around "
    "between among along during".split()
)
NO_NOUNS = frozenset("red blue green yellow purple pink brown black white grey gray silver golden wooden".split()) | (
    frozenset("big small large tiny huge little tall striped woolen knitted bright".split())
)
"""Adjectives that do not stand for a thing, as "an orange" does."""
NEVER_TWICE = frozenset("bye that had very pom tom tam tuk choo so no".split())
"""Words that may be doubled."""
_PLACED = "and or but of is in on at near beside by to into onto".split()
NEVER_AFTER = {
    **dict.fromkeys(("with", "of", "wearing", "holding", "carrying"), frozenset((*_PLACED, "with", "from"))),
    **dict.fromkeys(("at", "from"), frozenset("and or but of is".split())),
    "in": frozenset("on at of near beside under and or is".split()),
}
"""Prepositions whose noun is gone if these follow: "a woman in on a scooter"."""
PLURAL = re.compile(
    r"(?:s|'s|men|women|people|children|feet|geese|mice|teeth|cattle|fish|sheep|deer|moose|samurai|aircraft|salmon|bison|shrimp|trout|dozen|more)$"
)
PARTS_OF_WORDS = re.compile(r"(?:covered|filled|lined|coloured|colored|shaped|topped|clad|capped|laden)$")


def article(word: str) -> str:
    """Return "a" or "an", as the word after it sounds."""
    return "an" if _articles(word) == {"an"} else "a"


def find_breaks(text: str) -> Counter[str]:
    """Find the places where a text breaks the rules of English: what breaks, and how often.

    Wrong articles ("a umbrella"), words that cannot meet ("with and", "a the", "a three"), doubled words, adjectives
    without their noun ("a red on a lawn"), singulars after a number, and ends where more has to come ("wearing a").
    """
    tokens = TOKEN.findall(text)
    words = [token.lower() for token in tokens]
    found = [f"{one} {other}" for one, other in zip(tokens, tokens[1:], strict=False) if _clash(one, other)]
    for place, word in enumerate(words):
        after = words[place + 1] if place + 1 < len(words) else "."
        before = words[place - 1] if place else ""
        if word in NO_NOUNS and before in ("a", "an") and (after in PREPOSITIONS or after in ",."):
            found.append(f"{before} {word} {after}")
        if word in COUNTS and before not in ("the", "of") and _lacks_plural(words[place + 1 :]):
            found.append(f"{word} {after}")
    last = words[-1] if words else ""
    cut_off = last == "her" and words[-2:-1] in (["in"], ["on"], ["of"])
    if last in DANGLING or cut_off or last == "," or (len(words) > 1 and "-" in last and PARTS_OF_WORDS.search(last)):
        found.append(f"{last} .")
    return Counter(found)


def _clash(one: str, other: str) -> bool:
    """Return whether the first word cannot stand before the second."""
    before, after = one.lower(), other.lower()
    if before == after and before.isalpha() and before not in NEVER_TWICE and len(before) > 1:
        return True
    if before in ("a", "an") and one != "A" or one == "A" and other[0].islower():
        little = after in _LITTLE or after in PREPOSITIONS or after in ("a", "an", "some", *COUNTS)
        return little or (len(after) > 1 and before not in _articles(other))
    if before == "the":
        return after in ("a", "an", "of", "and", "or", "with", "at", "from", "to", "is", "are", "was")
    return after in NEVER_AFTER.get(before, ())


def _articles(word: str) -> set[str]:
    """Return the articles that a word may have; both for abbreviations, which are spelt or spoken."""
    plain = unicodedata.normalize("NFKD", word.lower())
    if not plain[:1].isascii() or not plain or _EITHER.match(plain) or (word.isupper() and len(word) > 1):
        return {"a", "an"}
    if plain[0].isdigit():
        return {"an"} if _EIGHT.match(plain) else {"a"}
    if len(plain.partition("-")[0]) == 1:
        return {"an"} if plain[0] in "aefhilmnorsx" else {"a"}
    vowel = plain[0] in "aeiou" and not _LIKE_YOU_OR_ONE.match(plain)
    return {"an"} if vowel or _SILENT_H.match(plain) else {"a"}


def _lacks_plural(after: list[str]) -> bool:
    """Return whether the words after a number, up to the next little word, are singular: "three horse grazing"."""
    phrase: list[str] = []
    for word in after:
        if word in PREPOSITIONS or word in DANGLING or not word[0].isalpha() or word.endswith(("ing", "ed")):
            break
        phrase.append(word)
    return 0 < len(phrase) < 3 and not any(PLURAL.search(word) or word in COUNTS or "-" in word for word in phrase)
