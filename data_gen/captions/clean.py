"""Clean captions from the web by fixed rules, so that only the description of the picture stays.

The rules are for English; other languages are unchanged, and the checks of triples refuse them. In this order:

1. Only the first RAW characters are read, so that a caption of a megabyte costs no time.
2. HTML entities become characters, and tags are removed.
3. Terminal escapes, control, zero-width, bidirectional and private characters, and surrogates go.
4. Credits go ("(Photo: J. Doe)", "© 2015 J. Doe", "J. Doe/Getty Images"), then emoji and other small pictures.
5. Characters (NFKC), quotation marks and dashes are normalized.
6. Web and mail addresses, hashtags and @mentions go.
7. File names go, or become the words in them; so are leftovers of them ("IMG_2034", "jpg").
8. Prices and sales phrases go ("free shipping", "50% off", "royalty-free stock photo of").
9. Resolutions and related words ("4k", "1920x1080 wallpaper") and sizes ("30x40 cm") go.
10. Numbers of items go: "(12)", "#4532", "B07XJ8C8F5", and all of six digits and more.
11. Of parts between bars the one with most words stays, the first of equals; names of sites go on either side of a dash
    and at the end ("| Etsy", " - Wikipedia", "by Shutterstock").
12. Text that is mostly capitals is lowered.
13. Repeated and dangling punctuation, decoration and quotation marks around the whole go; spaces are single.
14. A text without letters becomes empty.
15. At most max_words words stay: whole sentences, else whole clauses, else words, as far as they fit.

One rule may expose text that another one removes, so all are applied until nothing changes, which makes `clean`
idempotent. A text that still changes after PASSES passes is adversarial, and becomes empty.
"""

import html
import re
import unicodedata
from collections.abc import Callable

RAW = 4000
PASSES = 10
CLAUSE = 4
"""A cut at a sentence or comma keeps at least one in so many of the words that fit; "Wow. ..." is no caption."""


def _any(*patterns: str) -> re.Pattern[str]:
    """Compile a pattern that matches any of the patterns, ignoring case."""
    return re.compile("|".join(patterns), re.IGNORECASE)


AMPERSANDS = re.compile(r"&(?:(?:amp|#0*38|#x0*26);)+", re.IGNORECASE)
ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][\da-fA-F]{1,6}|[A-Za-z]\w{1,30});|&(?:amp|nbsp|quot|lt|gt)\b")
TAG = _any(r"<(script|style)\b[^<]*</\1\s*>", r"<[a-z/!?][^<>]*>", r"<[a-z]+\s[^<>]*=[^<>]*$")

ESCAPE = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b.?")
UNSEEN = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u034f\u061c\u180b-\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\ud800-\uf8ff\ufe00-\ufe0f\ufeff\ufff0-\uffff\U000e0000-\U0010ffff]"
)

AGENCY = (
    r"(?:shutterstock|getty\s?images|istock(?:\s?photos?)?|alamy|dreamstime|deposit\s?photos|adobe\s?stock|fotolia|"
    r"123\s?rf|big\s?stock(?:\s?photo)?|can\s?stock(?:\s?photo)?|vectorstock|freepik|pond5|stocksy|corbis|wireimage)"
)
SITE = (
    rf"(?:{AGENCY}|etsy|wikipedia|wikimedia(?:\s+commons)?|pinterest|ebay|flickr|tumblr|instagram|facebook|youtube|"
    r"reddit|deviantart|behance|dribbble|artstation|redbubble|society6|zazzle|walmart|wayfair|aliexpress|alibaba|"
    r"unsplash|pexels|pixabay|imgur|giphy|tripadvisor|zillow|airbnb|fine\s?art\s?america|saatchi\s?art|wallpaper\s?cave|"
    r"wallpaperaccess)"
)
PLACE = r"(?:\s+(?:uk|us|usa|canada|australia|shop|store|stock|images?|photos?))"
CREDIT = re.compile(
    r"(?i:\(\s*(?:(?:photos?|image|picture)\s*(?:by\b|credit|courtesy|via\b|:)|credits?\b|source:|courtesy\b|via\b)[^()]*\))"
    rf"|(?i:\b(?:photo(?:graph)?s?|images?|pictures?)(?:\s+(?:by|credit|courtesy)\b|:)[^.|()]{{0,80}}\b{SITE}\b)"
    rf"|\b(?:[A-Z][\w.'-]*\s){{0,2}}[A-Z][\w.'-]*\s?/\s?(?i:{SITE}\b)"
    r"|(?i:\bphoto(?:graph)?s?\s+by\s)(?:[A-Z][\w.'-]*\s?){1,3}$"
    r"|(?:©|\(c\)(?=\s*[\dA-Z])|\(C\)(?=\s*\d{4})|\b[cC]opyright\s*(?=©|\([cC]\)|\d|by\b))[^|.]*?(?=\s[-–—]\s|[|.]|$)"
)
EMOJI = re.compile(
    "[©®™\u20e3\u2190-\u21ff\u2300-\u23ff\u2460-\u24ff\u2500-\u27bf\u2900-\u297f\u2b00-\u2bff\u3030\u303d"
    "\U0001f000-\U0001faff]+"
)
MARKS = str.maketrans(
    {sign: '"' for sign in "“”„‟″"} | {sign: "'" for sign in "‘’‚‛′´`"}
    | {sign: "-" for sign in "‐‑‒–−"} | {sign: " - " for sign in "—―"} | {"⁄": "/"}
)  # fmt: skip

ADDRESS = _any(
    r"(?<!\w)(?:(?:by|at|on|from|via)\s+)?(?:(?:https?|ftp)://|www\.)[^\s<>()\[\]\"']+",
    r"(?<![^\s(\[<\"',;:])[\w.+-]+@[\w-]+(?:\.[\w-]+)+",
    r"(?<![\w@.-])(?:(?:by|at|on|from|via)\s+)?(?:[a-z0-9-]+\.)+(?:com?|net|org|info|biz|edu|gov|io|de|uk|eu)\b"
    r"(?:/[^\s()\[\]\"']*)?(?!\.?\w)",
)
LABEL = re.compile(r"(?<![\w&])#[^\W\d]\w*|(?<![\w.])@[\w.]*\w")

PREFIX = _any(r"^\s*(?:(?:file|image|datei|fichier):\s*|image result for\s+)(?=\S)")
FILE_NAME = _any(
    r"(?<![^\s(\[\"'])(?:[^\s()\"']*[/\\])?([^\s()\[\]\"'/\\|][^\s\[\]\"'/\\|]*)"
    r"\.(?:jpe?g|jfif|png|gif|webp|bmp|tiff?|svg|heic|cr2|nef|psd|eps|pdf|mp4|mov|avi|html?|php)(?![\w-])"
)
CAMERA = _any(r"(?<![^\W_])_?(?:img|dsc[nf]?|pict|mvi|dji|gopr|pxl|cimg|imag|pano|_mg)[-_]?\d{3,}(?:[-_]\w+)*")
EXTENSION = _any(r"(?<!\S)\.?(?:jpe?g|png|webp|bmp)(?!\w)")
FILE_PARTS = re.compile(r"[\W_]+")
FILE_NAMES = frozenset("img image images dsc photo pic picture screenshot untitled download file thumbnail".split())

MONEY = r"(?:(?:us|ca|au)\s?)?[$€£¥₹]\s?\d+(?:[.,]\d+)*(?:\s?usd\b)?"
MEDIUM = (
    r"(?:photo(?:s|graphs?|graphy)?|images?|pictures?|pics?|vectors?|illustrations?|footage|videos?|clip\s?arts?)\b"
)
SELLING = _any(
    rf"\b(?:royalty[ -]?free\b(?:\s+stock\b)?(?:\s+{MEDIUM})*|stock\s+{MEDIUM})"
    rf"(?:\s*(?:,|&|and\b)\s*(?:stock\s+|royalty[ -]?free\s+)?{MEDIUM})*(?:\s+of\b)?",
    r"\b(?:free|fast|worldwide)(?:\s+(?:worldwide|international|us|uk|standard|express))?\s+(?:shipping|delivery)\b"
    rf"(?:\s+(?:worldwide|on\s+(?:all\s+)?orders(?:\s+over\s+{MONEY})?))?",
    rf"(?:\b(?:only|just|from|for|was|now|price:?)\s+)?{MONEY}",
    r"\b\d+(?:[.,]\d+)*\s?(?:[$€£]|(?:usd|eur|gbp|euros?|dollars)\b)",
    r"\b(?:up\s+to\s+|save\s+)?\d{1,3}\s?%\s+(?:off|discount)\b",
    r"\b(?:buy|shop|order|download)\s+(?:it\s+)?(?:now|online|today)\b",
    r"\badd\s+to\s+(?:cart|basket|wishlist)\b",
    r"\bclick\s+(?:here|to\s+(?:enlarge|view|buy|zoom))\b",
    r"\b(?:sold\s+out|best\s+prices?|hot\s+sale|free\s+download)\b",
)

PAPER = r"(?:\s+(?:(?:ultra\s+)?u?hd|[48]k|desktop|mobile|phone|wallpapers?|backgrounds?)\b)*"
SIZE = _any(
    rf"(?:\bin\s+)?\b\d{{3,5}}\s?[x×]\s?\d{{3,5}}(?:\s?(?:px|pixels?))?\b{PAPER}(?:\s+of\b)?",
    r"(?:\bin\s+)?\b(?:[48]k|(?:full\s?|ultra\s)?hd|uhd|hq|(?:480|720|1080|1440|2160)p"
    rf"|high[ -](?:res(?:olution)?|quality))\b{PAPER}(?:\s+of\b)?",
    r"\b(?:desktop|mobile|phone|iphone|android|pc)\s+(?:wallpapers?|backgrounds?)\b(?:\s+of\b)?",
    r"\b\d+(?:\.\d+)?\s?[x×]\s?\d+(?:\.\d+)?\s?(?:(?:inch(?:es)?|cm|mm|px|ft|feet)\b|\")",
)
NUMBER = re.compile(
    r"[(\[{]\s?#?\d+(?:\s?(?:/|of|-)\s?\d+)?\s?[)\]}]|(?<!\w)#\s?\d+\b"
    r"|\b(?i:sku|isbn|asin|item|model|ref)\s?(?i:no\.?|number|#|:)[#:]?\s?[\w-]*\d[\w-]*"
    r"|\b(?=\d*[A-Z])(?=(?:[A-Z]*\d){3})[A-Z0-9]{8,}\b|\b(?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{12,}\b|(?<![\d.,])\d{6,}\b"
)

BARS = re.compile(r"\s*[|¦]\s*|\s+(?:[•·»]|::|//)\s+")
DASH = re.compile(r"\s+-+\s+")
SITE_ALONE = _any(
    rf"\s*(?:(?:buy|shop|available)\s+)?(?:(?:on|at|by|from|via)\s+)?(?:{SITE}|amazon){PLACE}*"
    r"(?:,\s*the free encyclopedia)?[\s.,!]*"
)
SITE_LAST = _any(rf"[\s,(]+(?:by|on|at|from|via|available\s+on)\s+{SITE}{PLACE}*[\s.!)]*$")

DECORATION = re.compile(r"[*~=^\\<>{}_|¦#]+|(?<!\S)[@+/&](?=\s*$)|[(\[]\s*[)\]]")
BEFORE_SPACE = re.compile(r" +([,.;:!?]+)(?= |$)")
DOTS = re.compile(r"\.{2,}(?=\w)")
REPEATED = re.compile(r"([!?.,;:&+@/\"-])(?: ?\1)+")
MIXED = re.compile(r"[!?.,;:]{2,}(?= |$)")

NO_END = frozenset("mr. mrs. ms. dr. st. mt. prof. jr. sr. vs. no. nr. ca. approx. inc. ltd. co.".split())
LOOSE = frozenset("a an the of in on at with and or to for from by near under over as its his her their".split())


def clean(text: str, max_words: int = 40) -> str:
    """Clean a caption; returns "" if nothing is left. `clean(clean(x)) == clean(x)`.

    Args:
        text: text of any length and content; only its first RAW characters are read.
        max_words: largest number of words that stay, at least 1.
    """
    for _ in range(PASSES):
        before = text
        text = " ".join(_start(text).split())
        for rule in RULES:
            text = rule(text)
        text = fit(text, max_words)
        if text == before:
            return text
    return ""


def without_markup(text: str) -> str:
    """Decode entities and remove tags, in this order; "&amp;amp;lt;" is an entity that was escaped several times."""
    text = ENTITY.sub(lambda found: html.unescape(found[0]), AMPERSANDS.sub("&", text))
    return TAG.sub(" ", text)


def without_codes(text: str) -> str:
    """Remove control and invisible characters, without spaces in their place, since they may be inside words."""
    return UNSEEN.sub("", ESCAPE.sub("", text))


def without_credits(text: str) -> str:
    """Remove credits of photographers and agencies."""
    return CREDIT.sub(" ", text)


def in_one_form(text: str) -> str:
    """Normalize characters by NFKC, after removing emoji, since NFKC makes "TM" of a trade mark sign."""
    return unicodedata.normalize("NFKC", EMOJI.sub(" ", text).translate(MARKS)).translate(MARKS)


def without_addresses(text: str) -> str:
    """Remove addresses with the preposition before them, hashtags and mentions."""
    return LABEL.sub(" ", ADDRESS.sub(" ", text))


def without_files(text: str) -> str:
    """Replace file names by the words in them, and remove those given by cameras."""
    return EXTENSION.sub(" ", CAMERA.sub(" ", FILE_NAME.sub(_file_words, PREFIX.sub("", text))))


def without_selling(text: str) -> str:
    """Remove prices and sales phrases, with the "of" that would be left of "stock photo of a barn"."""
    return SELLING.sub(" ", text)


def without_sizes(text: str) -> str:
    """Remove resolutions and sizes; "wallpaper" alone stays, since it may be on a wall."""
    return SIZE.sub(" ", text)


def without_numbers(text: str) -> str:
    """Remove numbers of series, articles and files; years and counts have fewer digits and no brackets."""
    return NUMBER.sub(" ", text)


def without_sites(text: str) -> str:
    """Remove names of sites; of parts between bars one is the caption, while dashes may belong to a sentence."""
    parts = [part for part in BARS.split(text) if _has_letters(part) and not SITE_ALONE.fullmatch(part)]
    text = max(parts, key=lambda part: len(part.split()), default="")
    clauses = [clause for clause in DASH.split(text) if _has_letters(clause) and not SITE_ALONE.fullmatch(clause)]
    return SITE_LAST.sub("", " - ".join(clauses))


def without_shouting(text: str) -> str:
    """Lowercase a text if most of its words are capitals; a few of them may be abbreviations, and stay."""
    words = re.findall(r"[A-Za-z]{2,}", text)
    loud = [word for word in words if word.isupper()]
    return text.lower() if 2 * len(loud) > len(words) and sum(map(len, loud)) > 3 else text


def without_decoration(text: str) -> str:
    """Remove repeated and dangling punctuation, and quotation marks around the whole text."""
    text = " ".join(DOTS.sub(". ", DECORATION.sub(" ", text)).split())
    text = REPEATED.sub(r"\1", BEFORE_SPACE.sub(r"\1", text))
    text = MIXED.sub(lambda found: next((sign for sign in "?!." if sign in found[0]), found[0][0]), text)
    text = text.lstrip(" -,.;:!?/&+@)]").rstrip(" -,;:/&+@([")
    if text.count('"') == 1:
        text = text.strip('"')
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" and text[0] not in text[1:-1]:
        text = text[1:-1].strip()
    return text if _has_letters(text) else ""


RULES: tuple[Callable[[str], str], ...] = (
    without_markup, without_codes, without_credits, in_one_form, without_addresses, without_files, without_selling,
    without_sizes, without_numbers, without_sites, without_shouting, without_decoration,
)  # fmt: skip


def fit(text: str, max_words: int) -> str:
    """Shorten a text to the first sentences that fit, else the first clauses, else words without a dangling end."""
    words = text.split()
    if len(words) <= max_words:
        return text
    words = words[:max_words]
    least = max(1, max_words // CLAUSE)
    for ends in (_ends_sentence, _ends_clause):
        last = next((count for count in range(max_words, least - 1, -1) if ends(words[count - 1])), 0)
        if last:
            return " ".join(words[:last]).rstrip(",;: ")
    while len(words) > 1 and words[-1].lower() in LOOSE:
        words.pop()
    return " ".join(words)


def _start(text: str) -> str:
    """Return the whole words among the first RAW characters."""
    return text if len(text) <= RAW else text[:RAW].rpartition(" ")[0] or text[:RAW]


def _ends_sentence(word: str) -> bool:
    """Return whether a sentence ends with a word; it does not with "St." or an initial."""
    bare = word.rstrip("\"')]")
    return bare.endswith((".", "!", "?")) and bare.lower() not in NO_END and not re.fullmatch(r"[A-Z]\.", bare)


def _ends_clause(word: str) -> bool:
    return word.endswith((",", ";", ":"))


def _file_words(found: re.Match[str]) -> str:
    """Return the words in a file's name: two and more, or a single one that is the whole name."""
    parts = [part for part in FILE_PARTS.split(found[1].replace("%20", " ")) if part.isalpha()]
    words = [part for part in parts if len(part) > 1 and part.lower() not in FILE_NAMES]
    if len(words) > 1:
        return " ".join(part for part in parts if part.lower() not in FILE_NAMES)
    return words[0] if words and found[1].isalpha() else " "


def _has_letters(text: str) -> bool:
    return any(sign.isalpha() for sign in text)
