"""Words of the rules: what a picture may show, what may change in it, and what prevents a change."""

import re
from typing import NamedTuple


class Addition(NamedTuple):
    """Objects that may be added to a picture.

    Args:
        where: pattern that the caption has to match; its last match replaces "{}" in `place`.
        place: place of the objects.
        things: objects with their articles.
        unless: pattern of words that prevent the addition.
        outside: whether the caption has to be of an outdoor scene.
    """

    where: re.Pattern[str]
    place: str
    things: tuple[str, ...]
    unless: re.Pattern[str]
    outside: bool = False


def pattern(words: str) -> re.Pattern[str]:
    """Compile a pattern of whole words, separated by spaces, each a regular expression; "_" is a space."""
    return re.compile(rf"\b(?:{'|'.join(words.split()).replace('_', ' ')})\b", re.IGNORECASE)


_COLORS = "red blue green yellow orange purple pink black white brown gray"
COLORS = tuple(_COLORS.split())
MORE_COLORS = frozenset("grey silver golden turquoise beige violet crimson navy cobalt scarlet ginger teal".split())
COLOR_INSTRUCTIONS = (
    "make the {0} {1}",
    "change the color of the {0} to {1}",
    "turn the {0} {1}",
    "the {0} should be {1}",
    "what if the {0} were {1}?",
)
PAINTABLE = frozenset(
    "car truck bus van jeep tram train tractor bicycle bike motorcycle scooter boat ship canoe kayak sailboat yacht "
    "barge helicopter house cottage cabin barn hut door gate fence shutter umbrella parasol tent sofa couch armchair "
    "chair bench cupboard suitcase backpack bag hat cap scarf dress skirt shirt blouse coat jacket raincoat sweater "
    "shoe boot mitten glove tie apron kimono sari vase mug teapot jug bowl cup bucket blanket curtain carpet rug "
    "cushion kite balloon lantern mailbox tablecloth ribbon collar bow helmet typewriter radio lighthouse windmill "
    "tower treehouse quilt pillow towel bottle guitar sled canopy awning".split()
)
"""Objects that may have any color."""
COLORABLE = PAINTABLE | frozenset(
    "cat kitten dog puppy horse pony rabbit parrot bird butterfly rose tulip orchid dahlia peony flower sunset wall "
    "roof eye hair lamp plate tile tray rock carpet booth table cloth light thread candle apple background silk velvet "
    "robe uniform hoodie veil turban headscarf cloak stripe sign frosting yarn sky neon shawl sail hull tablecloth "
    "headphone lipstick slate brick canvas petal ornament book cover ring box swimsuit costume".split()
)
NATURAL = {
    noun: tuple(colors.split())
    for noun, colors in {
        "eye": "blue green brown gray", "hair": "black brown red white pink", "sky": "blue gray orange pink",
        "sunset": "red orange pink purple", "light": "red blue green yellow white", "horse": "black white brown gray",
        "cat": "black white gray orange", "dog": "black white brown gray", "puppy": "black white brown gray",
        "kitten": "black white gray orange", "pony": "black white brown gray", "rabbit": "black white brown gray",
        "apple": "red green yellow", "rose": "red white pink yellow orange", "tulip": "red white pink yellow purple",
    }.items()
}  # fmt: skip
"""Colors that some objects may have."""

SWAP_GROUPS = tuple(
    tuple(group.split())
    for group in (
        "dog cat cow sheep goat rabbit fox wolf bear lion tiger elephant deer pig leopard raccoon hedgehog monkey "
        "squirrel panda koala badger zebra giraffe hippo moose kangaroo otter",
        "puppy kitten",
        "lamb foal",
        "horse camel donkey pony",
        "owl eagle parrot crow hawk robin raven toucan",
        "duck swan goose heron pelican flamingo",
        "rooster turkey peacock pheasant",
        "whale dolphin shark",
        "frog toad lizard gecko chameleon turtle snail",
        "bumblebee butterfly dragonfly ladybug moth",
        "house castle cottage barn church temple lighthouse windmill cabin tower chapel",
        "car truck bus van jeep tractor tram",
        "bicycle motorcycle scooter",
        "boat ship canoe sailboat gondola",
        "rose tulip sunflower daisy lily peony orchid poppy",
        "apple pear banana lemon strawberry orange mango peach plum fig",
        "carrot tomato onion radish eggplant mushroom pumpkin",
        "pizza cake burger salad pie sandwich",
        "pancake waffle croissant muffin cupcake pretzel cookie doughnut",
        "mountain hill volcano",
        "guitar violin piano trumpet cello saxophone accordion banjo",
        "knight pirate clown astronaut wizard cowboy samurai soldier sailor viking",
        "baker butcher fisherman farmer carpenter blacksmith mechanic",
        "oak willow birch pine palm",
        "chair armchair stool bench sofa",
        "book newspaper comic magazine letter",
        "hat helmet crown turban",
        "castle palace monastery mansion",
        "scarf necklace tie",
        "dragon unicorn griffin",
        "teapot jug vase pitcher",
        "tent caravan hut treehouse",
        "axe shovel pitchfork hammer",
        "bridge aqueduct viaduct",
        "statue fountain obelisk",
        "river canal creek",
    )
)
MASS_GROUPS = tuple(
    tuple(group.split())
    for group in (
        "coffee tea cocoa milk",
        "wine beer water lemonade",
        "cheese ham",
        "soup stew",
        "spaghetti ramen",
    )
)
"""Groups of nouns without an article."""
SWAP_INSTRUCTIONS = (
    "turn the {0} into {1}",
    "replace the {0} with {1}",
    "change the {0} to {1}",
    "swap the {0} for {1}",
    "make the {0} {1}",
)

_SAME = (
    "stone glass marble steel iron brick plastic leather bronze copper ceramic clay silver tin velvet silk wicker "
    "porcelain bamboo ice denim metal rubber concrete crystal brass terracotta linen cotton straw"
)
NOUN_OF_MATERIAL = {each: each for each in _SAME.split()} | {
    "wooden": "wood",
    "golden": "gold",
    "woolen": "wool",
    "knitted": "wool",
}
"""Adjectives of materials, and their nouns."""
_MATERIALS = (
    (
        "bridge tower staircase pier temple church chapel house cottage lighthouse hut cabin mansion villa bench wall "
        "fence gate arch fountain well",
        "wooden stone brick glass marble steel bamboo",
    ),
    (
        "table chair stool desk shelf bed crate box sideboard wardrobe cupboard armchair counter",
        "wooden glass marble steel plastic wicker bamboo",
    ),
    (
        "bowl cup mug vase jug teapot pot plate bucket pan spoon tray pitcher jar lamp lantern helmet",
        "wooden ceramic glass copper silver porcelain golden tin",
    ),
    ("sofa couch cushion", "velvet leather silk wicker denim"),
    ("jacket coat dress skirt boot glove shirt blouse scarf cap", "leather velvet silk denim woolen"),
    ("bag suitcase satchel backpack", "leather denim silver wicker plastic"),
    ("statue sculpture bust globe door figurine", "bronze marble wooden golden glass"),
    ("boat canoe sled toy clock crown sword necklace anchor bell", "wooden golden tin glass silver bronze"),
)
MATERIALS = {noun: materials.split() for nouns, materials in _MATERIALS for noun in nouns.split()}
"""Materials that objects may be made of."""
MATERIAL_INSTRUCTIONS = (
    "make the {0} out of {1}",
    "turn the {0} into {1}",
    "the {0} should be made of {1}",
    "what if the {0} were made of {1}?",
    "build the {0} of {1}",
)

EXPRESSIONS = {
    **{"smiling": "smile", "laughing": "laugh", "frowning": "frown", "crying": "cry", "grinning": "grin"},
    **{mood: f"look {mood}" for mood in "sad angry happy surprised worried serious bored proud".split()},
}
"""Facial expressions, and their instructions."""
MORE_EXPRESSIONS = {
    mood: f"look {mood}"
    for mood in "grumpy sleepy calm cheerful frightened scared tired lonely shy stern curious".split()
}
EXPRESSION_INSTRUCTIONS = (
    "make the {0} {1}",
    "let the {0} {1}",
    "have the {0} {1}",
    "the {0} should {1}",
    "I want the {0} to {1}",
)
PERSONS = frozenset(
    "man woman girl boy child toddler baby lady gentleman grandmother grandfather couple knight pirate clown astronaut "
    "wizard cowboy samurai soldier sailor monk nun fisherman farmer chef baker nurse doctor mechanic carpenter king "
    "queen prince princess nobleman shepherd barista waiter waitress bride musician violinist dancer blacksmith kid "
    "friend sister miner hipster boxer student teacher bartender butcher warrior gardener hairdresser cook captain "
    "witch policeman magician juggler angel mermaid violinist businessman businesswoman tourist explorer hiker viking "
    "cobbler potter shepherdess plumber pilot scientist traveller artist beekeeper watchmaker maid singer "
    "hermit".split()
)
HIDDEN_FACE = pattern(
    r"smil\w+ laugh\w* frown\w* cry\w* grin\w* grumpy angry sad happy surprised serious asleep sleep\w* back "
    r"silhouettes? mask helmet veil yawn\w* kiss\w* above afar far tired expression scowl\w* whisper\w* bruised "
    r"sing\w* weep\w* bored proud worried behind shy bust statue arguing quarrel\w* underwater stare staring screaming "
    r"goodbye eyes singing kind skeleton faces face armor fighting mooring blanket teddy doll distance aerial toasting "
    r"hands feet paws look drinking snore hiding"
)

REMOVABLE = frozenset(
    "hat cap helmet crown scarf collar sunglasses umbrella parasol backpack bag basket suitcase lantern lamp candle "
    "vase bottle jug glass cup mug fork knife spoon plate bowl book newspaper map camera telescope flag balloon kite "
    "ball bicycle motorcycle scooter car truck bus tractor boat canoe ship sailboat dog cat kitten puppy horse pony "
    "donkey bird parrot duck swan pigeon flock bench chair armchair table stool rug lamp mirror clock painting plant "
    "ficus fern tree bush flower rose daisy tulip lily statue fountain windmill well scarecrow tent caravan campfire "
    "bonfire rainbow moon sword shield spear axe stick cane pipe bow ribbon necklace earring ring gloves mask veil "
    "turban tie apron bandage tattoo beard mustache moustache fruit cheese bread wine milk water lemon basil parsley "
    "mint cucumber garlic onion mustard bacon toast ham jam syrup cream honey granola walnut grape strawberry "
    "blueberry banana olive feta pickle marshmallow rosemary oil salad asparagus chili lime quill inkwell skull shell "
    "cactus hammock parasol guitar violin pitchfork tray cigar cigarette bun teddy doll toy star castle cottage barn "
    "cabin tower jetty pier fence gate swing trampoline snowman sled bucket broom ladder rope cow sheep goat chicken "
    "camel rabbit fox frog butterfly bee baby child boy girl man woman companion silo church tram train palm cypress "
    "poppy wildflower wheelbarrow towel blanket pillow cushion napkin teapot pot laptop monitor radio phone headphones "
    "typewriter figs caper pea potato carrot herb sausage egg gull seagull crumb croissant scone jam".split()
)
WEARABLE = frozenset(
    "hat cap helmet crown scarf sunglasses glasses mask veil turban headscarf tie apron necklace beanie headphones bow "
    "backpack gloves shawl crown wig monocle".split()
)
HANDHELD = frozenset(
    "hat umbrella parasol lantern candle basket suitcase book newspaper map flag balloon flower rose cup mug bottle "
    "dog cat puppy kitten sword spear torch tray bucket guitar violin fork spoon bag camera stick bouquet teddy".split()
)

_BOATS = (
    r"\w*boats? ships? \w*ship canoes? kayak\w* gondola\w* yacht ferry barge tug swans? ducks? frozen ic[ey] \w*sail\w*"
)
_SKY = (
    r"sky night dark storm\w* balloons? rainbow birds? kites? milky_way eagles? indoors moon stars? airplane lightning "
    r"fog\w* volcano"
)
_ON_TOP = (
    r"tennis chess poker under candles? teacup vase \w*cups? tea stacked billiard set_for books? fruit flowers? on_top "
    r"\w*lamps? wedding party operating map"
)
_SEATED = (
    r"cat dog sitting asleep sleep\w* reading person man woman boy girl couple children lying sharing jumping cushion "
    r"in_it"
)
ADDITIONS = tuple(
    Addition(pattern(where), place, tuple(things.split(", ")), pattern(unless), outside)
    for where, place, things, unless, outside in (
        ("lake bay fjord harbou?r lagoon", "on the water", "a small boat, a white sailboat", _BOATS, True),
        ("pond canal", "on the water", "two ducks, a white swan", _BOATS, True),
        ("river stream", "on the water", "a canoe, a wooden raft, two ducks", _BOATS, True),
        ("sea ocean", "on the horizon", "a sailing ship, a lighthouse", _BOATS, True),
        ("beach", "on the sand", "a striped parasol, a beach ball, a sandcastle", "parasols? sandcastle", False),
        (
            "mountains? valley fields? meadow hills? village skyline farm castle vineyards? coast cliffs? canyon "
            "desert",
            "in the sky",
            "a hot air balloon, a rainbow, a flock of birds",
            _SKY,
            True,
        ),
        ("forest woods", "among the trees", "a deer, a small cabin, a fox", "deer cabin fox hut", True),
        (
            "street alley",
            "in the {}",
            "a stray dog, a bicycle, a street musician",
            "dogs? bicycles? bikes? musician busker street_art",
            True,
        ),
        ("road lane highway", "on the {}", "a cyclist, a red car", "cyclist cars? bicycles? bikes? cows? flock", True),
        (
            "garden backyard park",
            "in the {}",
            "a wooden bench, a stone fountain",
            r"bench\w* fountain gnome parking park_bench",
            True,
        ),
        (
            "house cottage cabin farmhouse hut barn church",
            "in front of the {}",
            "a bicycle, a wooden cart, a big tree",
            "bicycle trees? church_tower floor ruined upside gingerbread interior mass",
            True,
        ),
        (
            "castle tower lighthouse",
            "on top of the {}",
            "a red flag, a flock of birds",
            "flags? water_tower coiled flock keeper",
            True,
        ),
        (
            "oak tree",
            "in the {}",
            "an owl, a treehouse, a swing",
            "owl treehouse swing tree_house christmas in_a_tree leaning in_bloom family",
            False,
        ),
        (
            "table desk counter windowsill sideboard nightstand",
            "on the {}",
            "a burning candle, a vase of flowers, a cup of tea",
            _ON_TOP,
            False,
        ),
        (
            "living_room bedroom kitchen office library classroom attic dining_room workshop",
            "in the corner",
            "a potted plant, a sleeping cat, a floor lamp",
            r"plants? potted cat \w*lamps? ficus jumping aerial tree",
            False,
        ),
        ("sofa armchair bed bench couch", "on the {}", "a sleeping cat, a teddy bear, a red cushion", _SEATED, False),
        (
            "wall",
            "on the {}",
            "a clock, a climbing plant",
            "wall_of clock great sea_wall shadow graffiti posters? mural plants? books chinese great_wall town",
            False,
        ),
        (
            "car van bus jeep",
            "on the roof",
            "a surfboard, an old suitcase",
            "poster bus_stop dining body robotic engine mirror window subway convertible parked_car cable crossing "
            "inside",
            False,
        ),
        (
            "boat ship yacht canoe",
            "above the {}",
            "a seagull, a flock of birds",
            "gulls? seagulls? birds? in_a_bottle sunken paper model ship's sky",
            False,
        ),
        (
            "cake soup salad steak pizza pancakes burger pie ramen pasta spaghetti sushi dumplings",
            "next to it",
            "a glass of water, a folded napkin",
            "glass water napkin child toddler chef woman man boy girl throwing flipping gingerbread cart",
            False,
        ),
        ("snow", "in the snow", "a snowman, the tracks of a fox", "snowman fox tracks roofs? peaks?", True),
    )
)
"""Objects that may be added to a picture, and their places."""
WEAR = ("a red scarf", "a straw hat", "a black hat", "a green scarf", "a silver necklace", "round glasses")
WEAR_OF_ANIMALS = ("a party hat", "a red bow tie", "a tiny crown", "round sunglasses", "a knitted scarf")
DRESSED = pattern(
    r"astronaut jockey hands hats? caps? scarf headscarf helmet glasses sunglasses mask hood crown veil turban wear\w* "
    r"headphones costume dressed armor swim\w* div\w* pearl towel in_the_distance silhouettes? selfie necklace "
    r"stethoscope underwater monocle on_(his|her)_head hairnet robes? uniform goggles bow nude bath\w*"
)
ANIMALS = frozenset(
    "dog cat puppy kitten pug poodle whippet corgi husky dalmatian rabbit horse fox owl penguin pig goat sheep llama "
    "camel koala sloth bear lion tiger monkey panda hedgehog duck parrot lamb elephant giraffe raccoon toad frog "
    "squirrel cow leopard wolf hamster crow bulldog hippo chimpanzee goose swan deer zebra lizard alligator otter "
    "donkey foal snail turtle chipmunk robin eagle heron toucan pelican puffin".split()
)
VEHICLES = frozenset("car truck bus van jeep tractor motorcycle bicycle scooter bulldozer tank".split())
METALS = frozenset("golden silver copper bronze brass".split())
"""Materials with a color of their own."""
NO_SWAP = frozenset("rubber prickly bald bearded hot siamese arabian".split())
"""Adjectives that make a name with their noun."""
PLAIN = frozenset("striped checkered colorful colourful transparent rusty golden silver floral patchwork".split())
"""Adjectives that do not go with a color."""
COLORLESS = pattern(
    "black_and_white monochrome sketch charcoal pencil engraving woodcut noir silhouettes? grayscale marble"
)
SAID_MATERIAL = pattern("made_of built_of carved made_from folded wall_of tower_of bed_of")
ADD_INSTRUCTIONS = (
    "add {0}",
    "add {0} {1}",
    "put {0} {1}",
    "let there be {0} {1}",
    "place {0} {1}",
    "it needs {0}",
)
WEAR_INSTRUCTIONS = (
    "give the {1} {0}",
    "add {0}",
    "put {0} on the {1}",
    "let the {1} wear {0}",
)
REMOVE_INSTRUCTIONS = (
    "remove the {}",
    "take away the {}",
    "get rid of the {}",
    "erase the {}",
    "leave out the {}",
    "delete the {}",
)

_PLACES_OF_THINGS = (
    "street alley road lane highway garden backyard park house cottage cabin farmhouse hut barn church castle tower "
    "lighthouse oak tree table desk counter windowsill sideboard nightstand sofa armchair bed bench couch wall boat "
    "ship yacht canoe"
)
NOUNS = frozenset().union(
    *SWAP_GROUPS, *MASS_GROUPS, COLORABLE, MATERIALS, PERSONS, ANIMALS, VEHICLES, REMOVABLE, WEARABLE, HANDHELD,
    _PLACES_OF_THINGS.split(),
)  # fmt: skip
"""All that the rules know as a thing, in the singular."""
