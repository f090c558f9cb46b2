"""Edits that a picture would not show: values that it has anyway, look-alikes, hidden or missing faces."""

import re

from ip2p.data_gen.writers.rules.vocabulary import NOUN_OF_MATERIAL, pattern

PLAIN_VALUES = frozenset({"day", "sunny", "spring", "summer"})
"""Values of a whole picture that most pictures have without saying so."""
TWIN_VALUES = (frozenset({"sunset", "sunrise"}), frozenset({"spring", "summer"}), frozenset({"rainy", "stormy"}))
"""Values that look alike."""
FOLIAGE = pattern(
    r"trees? forest woods? parks? gardens? backyard meadows? hills? hillside valley orchard vineyards? lakes? rivers? "
    r"creek ponds? stream road lane path trail village mountains? farm\w* cottages? cabins? castle avenue "
    r"courtyard promenade churchyard countryside landscape"
)
"""Places that look different in autumn."""
PLAIN_STYLE = "a photograph"
"""The medium of a picture whose caption names none."""
VIVID = ("red", "blue", "green", "yellow", "orange", "purple", "pink")
"""Colors that nobody expects of a thing whose caption names none."""

_TWINS = (
    "frog toad", "lizard gecko chameleon", "horse pony", "crow raven", "hawk eagle", "swan goose duck", "sheep goat",
    "house cottage cabin", "church chapel temple", "boat ship", "canoe gondola", "mountain hill", "soup stew",
    "muffin cupcake", "chair armchair stool", "castle palace monastery mansion", "jug pitcher vase",
    "bridge aqueduct viaduct", "river canal creek", "violin cello", "oak willow birch", "coffee tea cocoa",
    "moth butterfly", "deer moose", "peony rose", "spaghetti ramen", "leopard lion tiger", "wolf dog",
    "baker butcher fisherman farmer carpenter blacksmith mechanic", "mango peach orange", "plum fig",
    "whale dolphin", "soldier sailor", "van bus", "book magazine comic", "newspaper letter", "cookie pretzel",
    "turban hat", "bench sofa", "cheese ham", "caravan hut", "cake pie",
)  # fmt: skip
TWINS = {noun: frozenset(group.split()) - {noun} for group in _TWINS for noun in group.split()}
"""Things that a small picture hardly tells apart."""

_USUAL = (
    ("bridge tower pier temple church chapel lighthouse wall fence gate arch fountain well staircase",
     "wooden stone brick steel"),
    ("house cottage hut cabin mansion villa", "wooden stone brick"),
    ("bench table chair stool desk shelf bed crate box ladder sideboard rail wardrobe cupboard armchair counter",
     "wooden steel plastic"),
    ("bowl cup mug plate teapot pot", "ceramic porcelain"),
    ("vase jug pitcher jar", "glass ceramic porcelain"),
    ("pan spoon tray bucket lamp lantern helmet", "tin silver"),
    ("cushion couch sofa", "leather"),
    ("coat jacket boot glove bag suitcase satchel backpack", "leather woolen"),
    ("skirt shirt dress blouse scarf cap", "woolen"),
    ("statue sculpture bust figurine", "bronze marble"),
    ("boat canoe sled toy clock door", "wooden tin"),
    ("crown necklace", "golden silver"),
    ("sword anchor bell", "silver bronze tin"),
)  # fmt: skip
USUAL_MATERIALS = {noun: frozenset(materials.split()) for nouns, materials in _USUAL for noun in nouns.split()}
"""Materials that nobody would notice where a caption names none."""

_METALS = frozenset("metal steel tin iron silver".split())
INDOORS = pattern("ceiling interior inside nave indoors")
"""Places where the walls of a building are not seen from outside."""
FAMILY = pattern("mother father parents? cubs? calf calves young litter")
"""Animals that another one of another kind would not fit to."""

FACELESS = frozenset(NOUN_OF_MATERIAL) | frozenset(
    "toy miniature mechanical inflatable carved stuffed painted headless masked veiled dead skeletal".split()
)
"""Adjectives of persons who are things, or have no face to see."""
NO_FACE = pattern(
    r"sculptures? figurines? puppets? mannequins? scarecrow snowman gravestone grave stamp coins? chess\w* topper "
    r"operating surgeon surgery div\w+ weld\w+ goalkeeper astronaut spacesuit ski\w* surf\w* crowd costume sticker "
    r"logo icon silhouette\w* swim\w* tiny small_figure figures rowing climb\w* fencing hockey poster album cover card "
    r"handwritten book_of shop_sign sign tombstone"
)
"""Words of captions whose persons are things, masked, or too small."""


def look_alike(one: str, other: str) -> bool:
    """Return whether two things look alike in a small picture."""
    return other in TWINS.get(one, ())


def feels_alike(said: str, material: str) -> bool:
    """Return whether two materials look alike: "metal" and "tin"."""
    return {said, material} <= _METALS


def may_be_added(value: str, caption: str) -> bool:
    """Return whether a caption without a value of this aspect may get this one, so that the picture changes."""
    return value not in PLAIN_VALUES and (value != "autumn" or bool(FOLIAGE.search(caption)))


def is_same_to_the_eye(one: str, other: str) -> bool:
    """Return whether two values of a whole picture look alike."""
    return one == other or any({one, other} <= twins for twins in TWIN_VALUES)


def names_window(caption: str) -> bool:
    """Return whether a caption has a window, which a picture of stained glass would confuse."""
    return bool(re.search(r"\bwindows?\b", caption, re.IGNORECASE))
