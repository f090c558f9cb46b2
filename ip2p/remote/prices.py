"""Estimated costs of requests to a language model: tokens, without its tokenizer, and USD."""

import math
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

from ip2p.errors import ConfigError
from ip2p.remote.ledger import Cost
from ip2p.remote.server import ServerSettings

PUBLISHED = {
    "gpt-5": (1.25, 10.0),
    "gpt-5-mini": (0.25, 2.0),
    "gpt-5-nano": (0.05, 0.4),
    "gpt-4.1": (2.0, 8.0),
    "gpt-4.1-mini": (0.4, 1.6),
    "gpt-4o": (2.5, 10.0),
    "gpt-4o-mini": (0.15, 0.6),
}
"""USD per million tokens read and written, as OpenAI published them in 2025; prices in the settings replace them."""

BATCH_SHARE = 0.5
"""The Batch API's price, as a share of the usual one."""


class Price(NamedTuple):
    """USD per million input and output tokens, and the source of the price."""

    read: float
    written: float
    source: str

    def of(self, tokens_in: int, tokens_out: int) -> Cost:
        """Return the cost of a request."""
        return Cost(tokens_in, tokens_out, (tokens_in * self.read + tokens_out * self.written) / 1e6)


def price_of(settings: ServerSettings, model: str) -> Price:
    """Return the price of a model.

    A server in the same machine or network costs nothing unless the settings have a price.

    Raises:
        ConfigError: the budget is limited, but the price is unknown.
    """
    share = BATCH_SHARE if settings.halved else 1.0
    if settings.price_in is not None and settings.price_out is not None:
        return Price(settings.price_in, settings.price_out, "as set")
    known = next((name for name in sorted(PUBLISHED, key=len, reverse=True) if model.startswith(name)), None)
    if known and not settings.base_url:
        read, written = PUBLISHED[known]
        return Price(share * read, share * written, "as published in 2025")
    if settings.base_url and _is_own(settings.base_url):
        return Price(0.0, 0.0, "a server of your own")
    if settings.max_usd:
        raise ConfigError(
            f"the price of {model} is not known, and {settings.key('max_usd')} is {settings.max_usd:g}",
            f"Give {settings.key('price_in')} and {settings.key('price_out')} in USD per million tokens, or limit "
            f"{settings.key('max_tokens')}",
        )
    return Price(0.0, 0.0, "not known")


def tokens_about(text: str) -> int:
    """Estimate the tokens of a text: about one for four English letters, and more for other characters."""
    plain = sum(map(str.isascii, text))
    return math.ceil(plain / 4 + (len(text.encode(errors="replace")) - plain) / 2)


def tokens_at_most(text: str) -> int:
    """Estimate an upper bound of the tokens of a text, for reservations."""
    plain = sum(map(str.isascii, text))
    return math.ceil(plain / 2.5) + len(text.encode(errors="replace")) - plain + 16


def _is_own(url: str) -> bool:
    """Return whether an address is on this machine or in a private network."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_private
    except ValueError:
        return host == "localhost" or "." not in host or host.endswith((".local", ".internal", ".lan"))
