"""A first sieve for what no data set of pictures should ask for: sexual content, gore, slurs.

A short list of stems, looked for at the beginnings of words. It catches what is blunt and passes what is veiled, and it
knows English only; `checks.moderation: server` asks a server's moderation besides. Words with an innocent use in
captions, such as "breast" (chicken, robin) or "blood" (orange), are left out: what is refused here should be refused.
"""

import re

SEXUAL = "porn erotic nude nudity naked topless orgasm hentai nsfw sexual sexy genital".split()
GORE = "gory behead decapitat disembowel dismember mutilat bloodbath entrails suicid rape raping".split()
SLURS = "nigge nigga faggot kike".split()
INNOCENT = "rapeseed".split()
"""Begins like one of those above."""

_STEMS = re.compile(rf"\b(?!{'|'.join(INNOCENT)})(?:{'|'.join(SEXUAL + GORE + SLURS)})", re.IGNORECASE)


def is_improper(*texts: str) -> bool:
    """Whether one of the texts has a word of the list."""
    return any(_STEMS.search(text) for text in texts)
