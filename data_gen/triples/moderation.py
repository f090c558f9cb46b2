"""A word list against sexual content, gore and slurs.

It is a short list of stems, matched at the beginnings of words. It finds explicit words only, and only English ones;
`checks.moderation: server` also asks a server's moderation. Words with an innocent use in captions, such as "breast"
(chicken, robin) or "blood" (orange), are left out.
"""

import re

SEXUAL = "porn erotic nude nudity naked topless orgasm hentai nsfw sexual sexy genital".split()
GORE = "gory behead decapitat disembowel dismember mutilat bloodbath entrails suicid rape raping".split()
SLURS = "nigge nigga faggot kike".split()
INNOCENT = "rapeseed".split()
"""Begins like one of those above."""

_STEMS = re.compile(rf"\b(?!{'|'.join(INNOCENT)})(?:{'|'.join(SEXUAL + GORE + SLURS)})", re.IGNORECASE)


def is_improper(*texts: str) -> bool:
    """Return whether any of the texts has a word of the list."""
    return any(_STEMS.search(text) for text in texts)
