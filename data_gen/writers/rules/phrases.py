"""Noun phrases of captions, and editing of sentences: articles, plurals, capitals, closing marks.

No grammar is parsed. A phrase is a known noun with the adjectives and the determiner before it, if the words around it
show that it is the head noun: "car" in "a red car on a road", but not in "a car park".
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from ip2p.data_gen.triples.grammar import article
from ip2p.data_gen.writers.rules.vocabulary import (
    COLORS,
    EXPRESSIONS,
    MORE_COLORS,
    MORE_EXPRESSIONS,
    NOUN_OF_MATERIAL,
    NOUNS,
)

TOKEN = re.compile(r"[A-Za-z0-9]+(?:['’-][A-Za-z0-9]+)*|[^\sA-Za-z0-9]")
ADJECTIVE = re.compile(r"[a-z-]{3,}(?:y|ed|ful|ish|less)$")
AFTER = re.compile(r"[a-z-]{2,}(?:ing|ed)$|[^a-z0-9-]")


DETERMINERS = frozenset(
    "a an the one two three four five six seven eight some several many few his her its their my our this that these "
    "those another each every no".split()
)
MANY = frozenset("two three four five six seven eight several some many few".split())
BEFORE_NOUNS = DETERMINERS | frozenset(
    "and or with without of in on at by near under over behind beside between above below beneath against along around "
    "across through from into onto to for toward towards as like holding wearing carrying eating drinking selling "
    "riding driving chasing feeding catching herding walking watching playing painting making building reading pouring "
    "throwing among showing crossing leading past inside outside off".split()
) | {"", ",", ".", ":", ";", "("}  # fmt: skip
"""Words that may stand before a noun phrase; others may well belong to the noun, as in "ice cream truck"."""
AFTER_NOUNS = frozenset(
    "a an the and or with without in on at by near under over behind beside between above below beneath against along "
    "around across through from into onto toward towards as like of next for to during before after inside outside up "
    "down is are was were has have that who which whose while surrounded seen made built lit drawn hung full asleep "
    "alone shot being hidden covered left torn lost caught stuck frozen overgrown stacked both all one two three each "
    "among amid stands sits lies runs walks sleeps looks waits howls eats drinks plays jumps flies swims rests watches "
    "crosses sails hangs leans floats drives rides grows smiles reads holds beyond past off out blown upside there "
    "facing".split()
)
"""Words that may follow a noun that stands for itself; so may marks, and words in "-ing" and "-ed"."""
ADJECTIVES = (
    frozenset(
        "old new young big small little tiny huge giant large tall short long wide narrow round square thin thick fat "
        "fresh ripe raw cold wet dry clean bright dark pale deep light plain simple modern ancient antique vintage "
        "medieval gothic rustic classic futuristic wild tame baby lone single solitary crooked broken open closed "
        "empty full half steep high low flat soft hard sharp smooth rough warm cool good nice cute fine strong weak "
        "blind deaf quiet loud quick slow rich poor great grand front rear sleeping galloping grazing running jumping "
        "standing sitting lying flying swimming swinging barking dancing walking playing burning glowing floating "
        "melting rearing middle-aged elderly teenage adult male female blond blonde brunette bald pregnant gray-haired "
        "barefoot japanese chinese indian french dutch greek italian spanish american mexican african roman english "
        "scottish norwegian swiss turkish moroccan siamese traditional wooden-legged alpine arabian mossy abandoned "
        "beautiful elegant famous colorful colourful striped spotted checkered matte shiny metallic transparent "
        "white-washed double-decker straw-hatted hollow spiral winding floral patchwork different identical matching "
        "homemade handmade freshly curious mysterious magic magical proud brave royal noble wise sleek slender plump "
        "majestic mechanical miniature clawfoot remote distant fallen dead bare tropical blooming wide-brimmed woven "
        "open-air worn first last".split()
    )
    | frozenset(COLORS)
    | MORE_COLORS
    | frozenset(NOUN_OF_MATERIAL)
    | EXPRESSIONS.keys()
    | MORE_EXPRESSIONS.keys()
)
NO_ADJECTIVES = frozenset(
    "tabby teddy country city military library cavalry factory family party body navy ferry pony toy jersey berry "
    "cherry strawberry lily baby-sitter grocery body army century gallery bakery brewery display day holiday highway "
    "birthday railway valley monkey turkey donkey honey money by dairy ivory laundry poppy dolly pastry curry whiskey "
    "hockey puppy bunny daddy mummy lady daisy any only very early every many they play away seed weed bed need dish "
    "fish bullish radish finish unless goalkeeper jelly quarry cemetery county belly story clay hay bay bed shed sled "
    "reed feed".split()
)
"""Words with the ending of an adjective that belong to the noun after them, or to nothing."""
IRREGULAR = {
    "sheep": "sheep", "deer": "deer", "moose": "moose", "samurai": "samurai", "wolf": "wolves", "man": "men",
    "woman": "women", "gentleman": "gentlemen", "fisherman": "fishermen", "nobleman": "noblemen",
    "policeman": "policemen", "businessman": "businessmen", "businesswoman": "businesswomen", "child": "children",
    "goose": "geese", "knife": "knives", "leaf": "leaves", "shelf": "shelves", "scarf": "scarves",
    "tomato": "tomatoes", "potato": "potatoes", "mango": "mangoes", "sunglasses": "sunglasses", "glasses": "glasses",
    "headphones": "headphones", "volcano": "volcanoes",
}  # fmt: skip


class Phrase(NamedTuple):
    """A noun phrase in a caption.

    Args:
        determiner: "a", "two", "the" ... in lower case, or "".
        adjectives: adjectives in lower case, in order.
        noun: the caption's noun, in lower case.
        single: singular of the noun.
        start: start of the phrase, in characters.
        inner: start of the phrase without its determiner.
        head: start of the noun.
        end: end of the noun.
    """

    determiner: str
    adjectives: tuple[str, ...]
    noun: str
    single: str
    start: int
    inner: int
    head: int
    end: int

    @property
    def many(self) -> bool:
        """Whether the noun is a plural."""
        return (
            self.noun != self.single
            or self.determiner in MANY
            or (self.single == plural(self.single) and self.determiner not in ("a", "an", "one", "the"))
        )

    @property
    def bare(self) -> str:
        """Adjectives and noun, without the determiner."""
        return " ".join((*self.adjectives, self.noun))


def phrases(caption: str) -> list[Phrase]:
    """Return all phrases with a known noun, in order, except those whose noun occurs twice."""
    tokens = [(match.start(), match.end(), match.group().lower()) for match in TOKEN.finditer(caption)]
    found = [phrase for place in range(len(tokens)) if (phrase := _phrase(caption, tokens, place))]
    said = [_nouns().get(word, "") for _, _, word in tokens]
    return [phrase for phrase in found if said.count(phrase.single) == 1]


def insert(caption: str, place: int, word: str) -> str:
    """Insert a word into a caption before the one at `place`, and correct the article before it."""
    rest = caption[place:]
    if place == 0 and not is_name(caption, 0):
        word, rest = like(rest, word), rest[:1].lower() + rest[1:]
    return f"{with_article(caption[:place], word)} {rest}"


def replace(caption: str, start: int, end: int, word: str) -> str:
    """Replace the text from `start` to `end` by a word, keeping a capital and correcting the article before it."""
    return with_article(caption[:start], like(caption[start:end], word)) + caption[end:]


def append(caption: str, words: str) -> str:
    """Append words to a caption, before its closing mark."""
    body = caption.rstrip(" .!?")
    return body + words + caption.rstrip()[len(body) :]


def like(old: str, new: str) -> str:
    """Capitalize new words like the old ones."""
    return new[:1].upper() + new[1:] if old[:1].isupper() else new


def with_article(before: str, word: str) -> str:
    """Append a word to a text, and correct "a" or "an" before it."""
    return re.sub(r"\b([Aa])n?(\s+)$", lambda match: like(match[1], article(word)) + match[2], before) + word


@lru_cache(maxsize=4096)
def plural(noun: str) -> str:
    """Return the plural of a noun of the vocabulary."""
    if noun in IRREGULAR:
        return IRREGULAR[noun]
    if noun.endswith(("s", "x", "ch", "sh")):
        return f"{noun}es"
    return f"{noun[:-1]}ies" if re.search(r"[^aeiou]y$", noun) else f"{noun}s"


def is_name(caption: str, start: int) -> bool:
    """Return whether a word is capitalized within a sentence that is not a title."""
    if start == 0 or not caption[start].isupper():
        return False
    if caption[0].islower():
        return True
    initials = [word[0] for word in caption.split() if word[0].isalpha() and len(word) > 3]
    return sum(initial.isupper() for initial in initials) <= len(initials) / 2


def _phrase(caption: str, tokens: list[tuple[int, int, str]], place: int) -> Phrase | None:
    """Return the phrase whose noun is the token at a place; None if there is none."""
    start, end, noun = tokens[place]
    single = _nouns().get(noun)
    if single is None or is_name(caption, start):
        return None
    after = tokens[place + 1][2] if place + 1 < len(tokens) else "."
    if after in "'’" or not (after in AFTER_NOUNS or AFTER.match(after)):
        return None  # "ice cream", "kids' train"
    first = place - sum(1 for _ in _adjectives(caption, tokens, place))
    before = tokens[first - 1][2] if first else ""
    if before not in BEFORE_NOUNS:
        return None
    determiner = before if before in DETERMINERS else ""
    inner = tokens[first][0]
    adjectives = tuple(word for _, _, word in tokens[first:place])
    return Phrase(
        determiner, adjectives, noun, single, tokens[first - 1][0] if determiner else inner, inner, start, end
    )


def _adjectives(caption: str, tokens: list[tuple[int, int, str]], place: int) -> Iterator[str]:
    """Yield the adjectives before a token, the last one first."""
    for start, _, word in reversed(tokens[:place]):
        known = word in ADJECTIVES or (ADJECTIVE.match(word) and word not in NO_ADJECTIVES and word not in _nouns())
        if not known or is_name(caption, start):
            return
        yield word


@lru_cache(maxsize=1)
def _nouns() -> dict[str, str]:
    """Return the singular of each known noun, by its singular and its plural."""
    return {form: noun for noun in NOUNS for form in (plural(noun), noun)}
