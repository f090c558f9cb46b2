"""Texts of shop listings: names of goods with sizes, numbers and praise, which an edit would not leave in one piece."""

import re

_UNIT = r"(?:cm|mm|inch(?:es)?|ml|cl|l|oz|kg|g|lbs?|gb|tb|mah|hz|watts?|qt|quart|gallon|count|ct)"
SURE = re.compile(
    rf"[$€£¥]\s?\d|\b\d+(?:[.,]\d+)?\s?{_UNIT}\b(?![a-z])|\b\d+\s?(?:pcs|pieces?|packs?|pairs?)\b|\bages? \d+\+?"
    r"|\b(?:sets?|packs?|pairs?|boxe?s?) of \d+\b|\b\d+[- ](?:pack|piece|set|pc)\b|\bsizes? (?:[smlx]{1,4}|\d+)\b"
    r"|\bx{1,3}l\b|\b(?:us|uk|eu) ?\d+(?:\.\d)?\b|\b\d+(?:\.\d+)?\s?[x×]\s?\d+|\bmodel (?:no|number)\b",
    re.IGNORECASE,
)
"""Prices, measures, numbers of pieces and sizes."""
GOODS = (
    "free_shipping shipping brand_new condition warranty gift_(?:box|set|idea) adjustable hypoallergenic waterproof "
    "water-resistant shockproof non-slip stainless_steel vacuum_insulated wireless bluetooth rechargeable usb(?:-c)? "
    "compatible breathable lightweight machine_washable heavy[-_]duty foldable portable premium durable ergonomic "
    "unisex (?:slim|regular)_fit button-down crew_neck v-neck (?:long|short)_sleeves? knee[-_]length hand[-_]?woven "
    "handcrafted gold[-_]plated sterling_silver genuine_leather faux_leather solid_(?:oak|wood|pine) sneakers iphone "
    "android samsung case_(?:for|with) replacement accessories decor kit for_(?:men|women|kids|boys|girls) "
    "for_(?:her|him) for_(?:home|living_room|bedroom|kitchen|office) polyester area_rug personalized custom "
    "new_arrival best_seller sale men's women's kids' ladies' boys' girls' mens womens"
)
HINT = re.compile(rf"\b(?:{'|'.join(GOODS.split()).replace('_', ' ')})(?!\w)", re.IGNORECASE)
"""Words of listings, each of which a caption may have too."""
OWNER_FIRST = re.compile(
    r"(?:(?:wo)?men['’]s|(?:wo)?mens|(?:kids|boys|girls|ladies|toddlers)['’]|unisex) ", re.IGNORECASE
)
TELLS = re.compile(r"\b(?:is|are|was|his|her|their|[a-z]{3,}ing)\b", re.IGNORECASE)
"""Words of captions, which tell what happens."""


def is_listing(text: str) -> bool:
    """Return whether a text is the listing of a shop: by a price or measure, two words of listings, or who wears it."""
    hints = {match.group().lower() for match in HINT.finditer(text)}
    return bool(SURE.search(text)) or len(hints) > 1 or bool(OWNER_FIRST.match(text) and not TELLS.search(text))
