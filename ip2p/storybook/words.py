"""Common English words of pictures and editing, besides those of the storybook language.

Each one is a single token, so that a model fine-tuned on other captions need not spell it.
"""

COMMON = frozenset(
    """
    about above across after again against ago ahead air alive all almost alone along already also although always
    am among angry animals another any anyone anything apart appears apple april are area arm around arrive art
    artist ask asleep at attic august aunt away baby back background bad bag bake balcony ball bamboo banana band
    bank bar bare bark base basket bath bay beak beam bear beard beautiful became because become bed bee been beetle
    before began begin behind being believe bell belong below bench bend beneath berries berry best better between
    bicycle big bike bit bite black blanket blaze blind block blond bloom blossom blossoms blow boat boats body bold
    book boot boots border both bottle bottom bow bowl box boy branch branches brave bread break breeze brick bricks
    bridge bright brighter bring broad broken bronze brook broom brother brush bubble bucket bug builder building
    buildings built bull bus bush bushes busy but butter butterfly button buy by cake calf call calm came camel
    camera camp candle candles cannot canvas canyon cap car card care carpet carrot carry cars cart cartoon carve
    cave ceiling cement center chain chair chalk charcoal cheek cheerful cheese cherry chick chicken child children
    chimney choose christmas circle city clay clean cleaner clearly cliff climb clock close closed cloth clothes
    cloud coast coat cobblestone cold collar colored colorful colors colour column comes comic common contrast cook
    cool copper coral corn corner could country couple course courtyard cover covered cowboy crab crack crane crayon
    cream creek crop cross crow crowd crown cup curtain curve cut cute cyan daffodil daisy damp dance danger darker
    date daughter dawn day deep deer desert detail did different digital dirt dirty distance distant dock does
    dolphin done dot dots double down dragon drawing drawings dream dress drift drink drive drop drops dry duck
    ducks dull during dust each eagle ear early ears earth east easy eat edge edges egg eggs eight elephant elm else
    emerald empty end endless engine enough enter entire entrance eve even ever evergreen every everyone eye eyes
    face faces fair fairy family famous fancy far farm farmer farther fast fat father favorite feather feel feet
    fence fern few fiery fifty figure fill film find fine finger finish fir fire fireplace fireworks first fish five
    flag flame flames flat flight float floating flock flood floor flow flower flowers fluffy fly flying foam
    foggier foot footpath foreground forest forever forget form fort forward found fountain four fourth frame free
    fresh friend friendly frog from front frost frosty frozen fruit full fun funny fur garage garden gardens gate
    gentle geometric ghost giant girl glad glass glow glowing goat gold golden good goose grain grand grandfather
    grandmother grape graphic grass grassy grave gravel gravity great greek grew grey ground group grow growing
    guard guitar gull had hair half hall hammer hand hands hang happen happy harbor hard harvest has hat hay
    haystack he head hear heart heat heather heavy hedge hello help hen her herd here hero hey hidden high higher
    hill hills hilltop him his hit hive hold hole holiday honey hook hope hopefully horn hot hotel hour houses huge
    human hundred hunt hurry ice iceberg icy idea if image imagine impressionist include indigo ink inn insect
    inside iris iron island its ivory ivy jacket january jar jelly jewel join joy july jump june jungle keep kept
    key kid kids kind king kitchen kite knight know ladder lady lamp lamps land landscape lane lantern lanterns
    large larger last late later laugh lavender lawn layer lazy lead leaf learn least leaves left leg legs lemon
    less lesson letter level library lie life lift lighter lightning lights lilac lily line lines lion listen little
    live lives log logs long longer look looking lot loud love lovely low lower lucky lunch machine made magic
    magical main man manga mango manor many map maple marble march mark market maroon mask match material may maybe
    me mean measure medieval meet melt memory men mermaid metal middle might mild mile milk million mind mine
    minimal mint minute mirror mix model modern moment monday monkey monochrome month mood moody moon moonlight
    moonlit moose more morning moss most moth mother motion mouse mouth moved movie mud muddy multicolored museum
    mushroom music my narrow nature navy near nearer nearly neat neck need neighbor nest net never new news next
    nice nine nobody noise noon normal north nose note nothing november nowhere number oak oar ocean october off
    often oil old older olive on once onion only onto open or orange orchard other our out outdoors outline outside
    over owl own ox paddle page paint painted painter painting pair pale palm panda paper parade parent park parrot
    part party pastel pasture patch path pattern pavement peace peaceful peach peacock peak pear pebble pebbles peel
    pen penguin people pepper perfect person photo photograph photorealistic piano picnic pictures piece pier pig
    pigeon pile pillar pine pink pirate place plain plane planet plant plants plate play plaza pleasant pleased
    plenty plow plum point polar pole pool poor pop poppy porch portrait post pot potato pottery power prairie
    pretty price prince princess print prints pull pumpkin pure purple push quarter queen quick quiet quilt quite
    rabbits race radiant raft rail railing rain rainclouds raindrops ram ran ranch rather raven ray rays reach read
    ready real realistic really red reed reflect reflection reflections renaissance rest retro return rice rich ride
    right ring ripple rise rising river riverside road roads robin robot rock rocks rocky roll romantic room rooster
    root rope rose roses rough round row ruby ruin ruins run running rural rust rustic rusty sad saddle safe said
    sail sails salmon salt same sand sandy sang satin saturday save saw scale scare scarecrow scarlet scene scenery
    scenic school sea seal season seat second see seed seem seen sepia september serene seven shade shadow shadows
    shape sharp shed shell shelter shine shines shining shiny ship ships shirt shoe shop short should shoulder shout
    shovel shrub shy side sign silent silhouette silk silver similar simple since sing single sister sit sitting six
    size skate ski skies skin sled sleep sleeping sleepy slide slope slow small smaller smell smile smiling smoke
    smooth snail snake snowfall snowflake snowflakes snowman soft softer soil some somebody someone something
    sometimes somewhere son song soon sound south space spark sparkle sparkling sparrow speak special spider spire
    splash spoon spot spots spotted spray square squirrel stable stables stained stairs stall stand standing star
    starfish starlight starry stars start station statue stay steam steel steep stem step steps stick still stone
    stones stood stork storm storms story storybook stove straight strange straw strawberry stream street strip
    stripe striped stripes strong structure student sudden sugar suit sun sunday sunflower sunflowers sunlight
    sunlit sunny sunrise sunshine surface surreal surround swallow swamp swan sweet swim swing sword table tail take
    tale talk tall tan taste taxi tea teal team tear teeth tell ten tent terrace than thank thanks that thatched
    their them these thick thin thing things think third this those thousand through throw thunder tide tidy tie
    tiger tile tiles tilt timber time times tiny tip tired today together tomorrow tonight tool tooth top torch
    touch toward tower towers town toy track tractor traditional trail train transparent trash travel treasure tree
    trees triangle trip tropical truck true trunk tulip tulips tunnel turkey turquoise turtle twelve twenty twilight
    twin two type ugly umbrella uncle under underwater unicorn until up upper upside us use valley van vane vase
    vast vegetables velvet very view villa village vine vines vineyard vintage violet visit vivid voice volcano
    wagon wait walk walking wall want warm warmer was wash watch water waterfall watering wave waves wax way wear
    weather weathered wedding weed week well went west wet whale what wheat wheel when where which whisper who whole
    why wide wild wilder will willow wind winding windows windy wine wing wings wise wish witch wolf woman women
    wonder wonderful wood wooden woodland woods wool word work world would wreath write writing wrong yard year yes
    yesterday yet yonder you young your zebra zero zoo
    """.split()
)
