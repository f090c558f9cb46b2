"""Words for aspects of a whole picture: season, time of day, weather, medium, and place."""

import re
from typing import NamedTuple

from ip2p.data_gen.writers.rules.vocabulary import pattern


class Value(NamedTuple):
    """A value of an aspect.

    Args:
        name: name of the value in instructions.
        forms: words of one meaning, from adverbial to adjective; forms with the same index have the same grammar in all
            values, and "" is a missing form. Of several words for one form, separated by "|", the first is written. The
            first form is added to captions without a value.
    """

    name: str
    forms: tuple[str, ...]


class Aspect(NamedTuple):
    """An aspect of a whole picture, and instructions to change it.

    Args:
        kind: kind of edit.
        values: possible values.
        context: pattern of what has to follow, for each form; "" for anything.
        hints: pattern of words that imply a value or depend on it, so that the aspect must not change.
        instructions: phrasings with a placeholder for the value's name.
    """

    kind: str
    values: tuple[Value, ...]
    context: tuple[str, ...]
    hints: re.Pattern[str]
    instructions: tuple[str, ...]


HOURS = re.compile(r"\b(?:evening|morning|dusk|dawn|twilight|midnight|noon|midday)\b", re.IGNORECASE)
"""Times of day with names of their own, which their values do not have."""


def name_said(said: str, value: Value) -> str:
    """Return the name of a value as a caption says it: "evening" for "in the evening", and else the value's own."""
    hour = HOURS.search(said)
    return hour.group().lower() if hour else value.name


SCENIC = (
    "day morning afternoon evening night street road city village town park forest field landscape scene valley "
    "mountains? hill meadow garden harbou?r coast weather sky wood woods"
)
NIGHT_OR_DAY = (
    r"day\w* noon midday mornings? afternoons? evenings? nights? midnight nighttime nocturnal dusk dawn twilight sunny "
    r"sun\w* moon\w* stars? star(ry|lit) lights? lit lighting sparklers? \w*lamps? \w*lanterns? \w*lamplit neon "
    r"fire\w* bonfire \w*fire campfire candles? candle\w* torch\w* shadows? shade rainbow sky skies glow\w* dark "
    r"darkness (golden|blue)_hour northern_lights milky_way silhouettes? breakfast lunch dinner school\w* bright "
    r"o.clock dappled clock lightning bats? owls? sleep\w* asleep noir"
)
_ENDING = r"(?=\s*(?:$|[,.;!?])| (?:in|on|at|by|near|with|over|under|and|from|seen|as|during)\b)"
"""Words that may follow an adverbial: no noun that it might belong to."""
SEASON = Aspect(
    "season",
    (
        Value("spring", ("in spring|in the spring|in springtime", "spring")),
        Value("summer", ("in summer|in the summer|in summertime", "summer")),
        Value("autumn", ("in autumn|in the fall|in the autumn", "autumn")),
        Value("winter", ("in winter|in the winter|in wintertime", "winter")),
    ),
    (_ENDING, rf"(?= (?:{'|'.join(SCENIC.split())})\b)"),
    pattern(
        r"spring\w* summer\w* autumn\w* fall winter\w* january february march april may june july august september "
        r"october november december snow\w* ic[ey] iceberg icebreaker frost\w* frozen glaci\w+ blizzard christmas "
        r"santa halloween easter year's carnival desert dunes? camels? caravan cactus tropical jungle \w*forest_floor "
        r"rainforest savanna\w* palms? palm_\w+ arctic safari penguins? polar coral bamboo mangroves? lions? tigers? "
        r"elephants? giraffes? zebras? antelopes? gazelles? waterhole crocodile flamingos? flower\w* wildflowers? "
        r"bloom\w* blossom\w* lea(f|ves) tulips? roses? dais(y|ies) popp(y|ies) sunflowers? lavender magnolia "
        r"bluebells? wheat \w*corn\w* cotton harvest\w* stubble barley hay pumpkins? grape\w* vineyards? apples? "
        r"cherry|cherries strawberr\w+ oranges lilies lily lilac olives? rice tea green grass\w* lush bare mowed mown "
        r"ski\w* sled\w* skat\w+ swim\w* sunbath\w+ surf\w* windsurf\w* hockey parasols? barefoot lambs? foal nest "
        r"chestnuts? heat ducklings chicks cold warm geyser\w* volcano\w* planting rapeseed nets stranded moon mars "
        r"space wildebeests? buffalos?"
    ),
    (
        "make it {}",
        "change the season to {}",
        "turn it into {}",
        "what would it look like in {}?",
        "it should be {}",
        "set it in {}",
        "have it be {}",
    ),
)
TIME = Aspect(
    "time",
    (
        Value("day", ("during the day|by day|in the daytime|at noon|at midday|in broad daylight", "", "afternoon")),
        Value("night", ("at night|by night|at midnight|at nighttime", "", "night")),
        Value("sunset", ("at sunset|at dusk|at twilight|in the evening", "sunset|dusk", "evening")),
        Value("sunrise", ("at sunrise|at dawn|in the morning|in the early morning", "sunrise|dawn", "morning")),
    ),
    (
        _ENDING,
        "(?= (?:over|above|in|on|behind|at|by)\\b)",
        "(?= (?:in|on|at|by|near|scene)\\b|$|,|\\.)",
    ),
    pattern(NIGHT_OR_DAY),
    (
        "make it {}",
        "change the time to {}",
        "what if it were {}?",
        "turn it into {}",
        "it should be {}",
        "let it be {}",
    ),
)
WEATHER = Aspect(
    "weather",
    (
        Value("sunny", ("in the sunshine|in bright sunshine", "on a sunny day", "sunny")),
        Value("rainy", ("in the rain|in heavy rain|in the pouring rain", "on a rainy day", "rainy")),
        Value("foggy", ("in the fog|in thick fog|in the mist|in fog", "on a foggy day|on a misty day", "foggy|misty")),
        Value("stormy", ("in a storm|during a storm|in a thunderstorm", "on a stormy day", "stormy")),
        Value("snowy", ("in the snow|in a blizzard|in a snowstorm", "on a snowy day", "snowy")),
    ),
    (_ENDING, "", rf"(?= (?:{'|'.join(SCENIC.split())})\b)"),
    pattern(
        r"rain\w* snow\w* sun\w* fog\w* mist\w* haz[ey] \w*storm\w* wind\w* clouds? cloud[yl]\w* sky skies overcast "
        r"umbrellas? parasols? lightning thunder\w* blizzard frost\w* ic[ey] iceberg frozen wet \w*puddles? bright "
        r"light shadows? shade stars? star(ry|lit) moon\w* dust\w* dry\w* desert dunes? camels? heat laundry \w*fire "
        r"burning burnt volcano picnic glow\w* silhouettes? beams drizzle ski\w* sled\w* weather sparklers? candles? "
        r"haystack hay golden calm parched mars space reflect\w+ mirror\w* waterfall air tropical sauna barbecue "
        r"airplane plane aerial canvas flying erupt\w+ northern_lights milky_way sea_of \w*balloons? grain"
    ),
    (
        "make it {}",
        "make the weather {}",
        "change the weather to {}",
        "it should be {}",
        "turn it into a {} day",
        "have it be {}",
    ),
)
ASPECTS = (SEASON, TIME, WEATHER)

OUTSIDE = pattern(
    r"lakes? rivers? sea ocean bay fjord harbou?r port pier jetty docks? coast\w* shore\w* beach\w* cliffs? island "
    r"canals? creek stream waterfalls? ponds? meadows? fields? hills? hillside hilltop mountains? mountainside valley "
    r"canyon gorge forest woods park gardens? backyard courtyard streets? alley roads? lane highway sidewalk pavement "
    r"square plaza villages? towns? city skyline rooftops? bridges? barns? farm farmhouse cottages? cabins? castle "
    r"church\w* cathedral lighthouse windmill \w*mill towers? temple shrine ruins tree trees orchard vineyards? "
    r"terrace balcony porch tents? campsite trail path deserts? dunes? railway houses? tram trucks? tractors? bus "
    r"cars? jeep motorcycle bicycles? sailboats? boats? ships? ferry canoe yacht moor prairie pasture paddock swamp "
    r"camp summit ridge ducks swans sheep cows horses mansion villa palace monastery abbey playground promenade "
    r"boardwalk hut bench statue fountain crossroads viaduct aqueduct pagoda lagoon amusement_park reeds"
)
INSIDE = pattern(
    r"dining mass welding engine \w*cloths? \w*room inside interior indoors? kitchen hall hallway lobby office library "
    r"museum studio workshop restaurant taverna? pub bar diner shop bookstore store supermarket garage attic cellar "
    r"basement gallery theat(re|er) gym hospital lab\w* elevator corridor subway greenhouse sofa couch armchair bed "
    r"desk bookshelf fireplace stove \w*windows? windowsill cupboards? vase bowls? plates? jars? ceiling \w*floors? "
    r"carpet rug caves? tunnel underwater aquarium stage pool nave cloister laundromat apartment loft bottle cup mug "
    r"shelf drawer hangar stairs staircase tables? tray stall lookout submarine chandelier ballroom opera stadium "
    r"station terminal classroom compartment bathtub sauna barbershop factory bakery stable"
)
NO_SCENE = pattern(
    "still_life depth_of_field street_art scuba diver close-?up macro maps? poster blueprint logo diagram anatomical "
    "patterns? abstract collage sculptures? bust origami toys? model miniature lego tattoo screenshot sign neon "
    "skeleton moon mars earth astronaut spaceship planet galaxy background product portraits? drawing_of_my paper "
    "mosaic stained embroidery cartoon pixel low_poly isometric gingerbread fairy crayon in_a_bottle sinking sunken "
    "surface hull underwater blurred? coral reef reflection map travel tarot snow_globe engine mural fresco graffiti "
    "face eyes? hands? feather shell doll"
)
CLASHES = tuple(
    (pattern(some), pattern(others))
    for some, others in (
        ("spring summer autumn", "snow\\w* blizzard ic[ey] frozen frost\\w*"),
        ("night nighttime midnight moonlit moonlight", "sunny sunshine sunlit"),
        ("winter", "\\w*flowers? bloom\\w* blossom\\w* swim\\w* barefoot picnic\\w* iced rain\\w*"),
        ("stormy", "street road city village town park forest field valley garden mountains? hill meadow wood woods"),
        ("sunset sunrise dusk dawn", "mist misty foggy fog rainy rain stormy storm sunny sunshine"),
        (
            "snow snowy",
            r"palms? tropical jungle savanna\w* rice \w*flower\w* bloom\w* blossom\w* tulips? roses? swim\w* surf\w* "
            r"barefoot harvest\w* lavender elephants? giraffes? zebras? flamingos? mangroves? coral sand beach sea "
            r"ocean boats? ships? sailboats? sailing lake river canal harbou?r spring summer autumn rainforest "
            r"vineyards?",
        ),
    )
)
"""Things that one picture cannot show, or no sentence should say, at a time."""

STYLES = {
    "a watercolor painting": ("make it a watercolor painting", "turn it into a watercolor", "as a watercolor"),
    "an oil painting": ("make it an oil painting", "turn it into an oil painting", "paint it in oil"),
    "a pencil sketch": ("make it a pencil sketch", "turn it into a pencil sketch", "as a pencil drawing"),
    "a mosaic": ("make it a mosaic", "turn it into a mosaic", "lay it as a mosaic"),
    "a comic book illustration": ("make it a comic", "draw it as a comic book", "in the style of a comic book"),
    "a photograph": ("make it a photograph", "turn it into a photo", "as a real photograph"),
    "a stained glass window": ("make it stained glass", "turn it into a stained glass window", "as stained glass"),
    "a woodblock print": ("make it a woodblock print", "turn it into a woodblock print", "as a woodblock print"),
    "an impressionist painting": ("make it impressionist", "turn it into an impressionist painting"),
    "a charcoal drawing": ("make it a charcoal drawing", "draw it in charcoal", "turn it into a charcoal drawing"),
    "a paper collage": ("make it a paper collage", "turn it into a collage of paper", "as a paper collage"),
    "a children's book illustration": ("make it a children's book illustration", "draw it for a children's book"),
    "an ink drawing": ("make it an ink drawing", "draw it in ink", "turn it into an ink drawing"),
    "a pixel art picture": ("make it pixel art", "turn it into pixel art", "as pixel art"),
}
MEDIUM = re.compile(
    r"^(?:an? |the )?(?:black and white )?(?:[\w'-]+ ){0,2}?"
    r"(?:photo(?:graph)?|picture|image|painting|watercolou?r|drawing|sketch|illustration|print|mosaic|engraving|collage"
    r"|fresco)s? (?:of|showing) ",
    re.IGNORECASE,
)
SAID_MEDIUM = pattern(
    r"photo\w* photoreal\w* paint\w* watercolou?r\w* draw\w* sketch\w* illustrat\w* mosaics? prints? comics? "
    r"canvas \w+-like style styled? impression\w+ \w*-impressionis\w+ expressionist cubis\w+ surreal\w* fauvis\w+ "
    r"rococo renaissance romantic art \w*art poster engraving blueprint collage frescos? mural noir selfie polaroid "
    r"close-?up macro exposure depth_of_field focus origami statues? sculptures? bust carved woodcut ink chalk "
    r"charcoal crayon cartoon pixel poly isometric ukiyo-e monet turner klimt picasso matisse utrillo rembrandt "
    r"vermeer manet modigliani caravaggio degas cezanne brue?gh?el duerer baroque pre-raphaelite school study vintage "
    r"retro shot aerial drone portrait_in pop gouache pastel oil botanical naive map graffiti stained crochet mandala "
    r"pattern geometric abstract low_poly silhouettes? tilt-shift motion_blur blurred? blurry manner century mona_lisa "
    r"last_supper minimalist sign cave_painting screen shading lighting lit key dystopian anatomical textbook "
    r"reimagined"
)

PLACES = {
    "beach": ("on a beach", "on the beach", "at the beach"),
    "desert": ("in the desert", "in a desert"),
    "forest": ("in a forest", "in the forest", "in the woods"),
    "jungle": ("in the jungle", "in a jungle"),
    "meadow": ("in a meadow", "in the meadow", "in a grassy meadow", "on a meadow"),
    "park": ("in a park", "in the park", "at the park", "in a city park"),
    "city street": ("on a city street", "on the street", "in the street", "on a street", "in a street"),
    "field": ("in a field", "in the field", "in a green field", "in a wheat field", "in a cornfield"),
    "mountains": ("in the mountains",),
    "garden": ("in a garden", "in the garden", "in a rose garden"),
    "moon": ("on the moon",),
    "village square": ("on a village square", "in a village square", "in a market square", "in a town square"),
    "farmyard": ("in a farmyard", "in a farm yard"),
    "hilltop": ("on a hilltop", "on a hill", "on a hillside"),
    "canyon": ("in a canyon",),
}
"""Settings in the open air, as an instruction names them, and the words of captions; the first are written."""
ROOMS = {
    "kitchen": ("in a kitchen", "in the kitchen", "in a rustic kitchen", "in their kitchen"),
    "living room": ("in a living room", "in the living room"),
    "library": ("in a library", "in the library", "in an old library"),
    "workshop": ("in a workshop", "in the workshop", "in his workshop", "in her workshop"),
    "cafe": ("in a cafe", "in the cafe", "at a cafe", "outside a cafe"),
    "bar": ("in a bar", "in a pub", "in a tavern", "in a dim bar", "at a bar", "in a restaurant"),
    "office": ("in an office", "in the office", "in her office", "in his office"),
    "classroom": ("in a classroom", "in the classroom"),
    "train": ("in a train", "on a train", "on a bus"),
    "attic": ("in an attic", "in the attic", "in a dark room"),
    "museum": ("in a museum", "in the museum"),
    "greenhouse": ("in a greenhouse",),
}
PLACE_INSTRUCTIONS = (
    "set it {0}",
    "what if it were {0}?",
    "let it take place {0}",
    "move it to {1}",
    "change the place to {1}",
    "move the scene to {1}",
)
PLACE_TIES = pattern(
    r"sea ocean waves? \w*shore coast\w* sand\w* trees? palms? snow\w* rivers? water lake pond forest woods dunes? "
    r"desert jungle mountains? cliffs? street road park garden field meadow hills? city town village harbou?r shells? "
    r"surf\w* kitchen bar cafe library office stove oven shelves books? barista waiter bartender chef train windows? "
    r"room sled\w* grass lea(f|ves) flower\w* driftwood pier jetty boats? ships? savanna temple church skyline traffic "
    r"lights ski\w* crops wheat corn grape\w* orchard farm tractor beach sunbath\w* view seen castle house houses "
    r"cabins? cottage hut barn mill windmill campsite umbrellas? shop market museum moon tower wall corner rain "
    r"stubble path swing pumpkins? fence bench sidewalk lion shadows? sun\w* well buildings? skat\w+ fish\w* counter "
    r"parking table gym bed sofa couch"
)
"""Things that belong to a place, and stay behind when the place changes."""
AT_A_PLACE = pattern(
    "in on at by near under over behind across through along inside outside front from into against between around "
    "beside up down off where while above below among"
)
