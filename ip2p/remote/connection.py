"""Connections to a server: checked before the first request, so that nothing is booked for one that cannot be sent."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx2
import openai

from ip2p.errors import ConfigError, WriterError, one_line
from ip2p.remote.faults import KEY_VARIABLE, describe
from ip2p.remote.prices import Price, price_of
from ip2p.remote.server import ServerSettings

TIMEOUT = 60.0
"""Time limit of a request in seconds; the SDK's default of ten minutes would block a worker for half an hour."""
URL_VARIABLE = "OPENAI_BASE_URL"
"""Environment variable of the SDK for the server's address."""
HEADER_VARIABLES = ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID")
"""Environment variables that the SDK sends as headers, beside the key."""
PROXY_HINT = (
    "Check HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and SSL_CERT_FILE in the environment; SOCKS needs: "
    "pip install 'httpx2[socks]'"
)


class Access(NamedTuple):
    """A server that can be asked.

    Attributes:
        settings: its settings, with the address of the environment if they have none.
        key: secret API key; never shown or written.
        model: name of the model on the server.
        price: price of the model.
    """

    settings: ServerSettings
    key: str
    model: str
    price: Price


def open_access(settings: ServerSettings, api_key: str | None = None) -> Access:
    """Check key, address and proxy, and find the model and its price.

    Args:
        settings: settings of the server.
        api_key: secret API key; None for that in the environment variable OPENAI_API_KEY.

    Raises:
        ConfigError: no model is named and the server has several, or the budget is limited and the price is unknown.
        WriterError: there is no key for OpenAI's server, or the server cannot be reached.
    """
    key = (api_key or os.environ.get(KEY_VARIABLE, "")).strip()
    settings = replace(settings, base_url=settings.base_url or os.environ.get(URL_VARIABLE, ""))
    if not key and not settings.base_url:
        raise WriterError(
            f"no key for OpenAI in {KEY_VARIABLE}",
            f"Set {KEY_VARIABLE}, or {settings.key('base_url')} for a server of your own",
        )
    connect(settings.base_url, key, key_of_address=settings.key("base_url")).close()
    model = settings.model or only_model(settings, key)
    return Access(settings, key, model, price_of(settings, model))


def connect(base_url: str, key: str, *, key_of_address: str = "triples.base_url", **options: Any) -> openai.OpenAI:
    """Return a synchronous client; a local server accepts any key, but the SDK requires one.

    Raises:
        ConfigError: the address is none.
        WriterError: the key cannot be sent, or the proxy not be used.
    """
    with _checked(base_url, key, key_of_address):
        return openai.OpenAI(api_key=key or "none", base_url=base_url or None, timeout=TIMEOUT, **options)


def connect_async(
    base_url: str, key: str, retries: int, hooks: dict[str, list[Callable[..., Any]]]
) -> openai.AsyncOpenAI:
    """Return an asynchronous client with hooks of its HTTP client. See `connect` for errors."""
    with _checked(base_url, key):
        return openai.AsyncOpenAI(
            api_key=key or "none", base_url=base_url or None, timeout=TIMEOUT, max_retries=retries,
            http_client=openai.DefaultAsyncHttpxClient(event_hooks=hooks),
        )  # fmt: skip


@contextmanager
def _checked(base_url: str, key: str, key_of_address: str = "triples.base_url") -> Iterator[None]:
    """Check what the requests are made of, and turn the errors of a client that cannot be made into ours."""
    for name, text in ((KEY_VARIABLE, key), *((name, os.environ.get(name, "")) for name in HEADER_VARIABLES)):
        place = next((place for place, sign in enumerate(text, 1) if not " " <= sign <= "~"), 0)
        if place:
            what = f"character {place} of {name} is none that a request can carry"
            raise WriterError(what, "Copy it again, without line breaks or typographic signs")
    if base_url:
        _check_address(base_url, key_of_address)
    try:
        yield
    except (ImportError, ValueError, OSError, httpx2.InvalidURL) as error:
        raise WriterError(f"no request can be sent to {base_url or 'OpenAI'} ({one_line(error)})", PROXY_HINT) from None


def _check_address(base_url: str, key: str) -> None:
    try:
        parts = urlsplit(base_url)
        if parts.scheme in ("http", "https") and parts.hostname and " " not in base_url and (parts.port or 1):
            return
    except ValueError:
        pass
    raise ConfigError(f"{base_url!r} is no address of a server", f"Set {key}, as in http://localhost:8000/v1")


def only_model(settings: ServerSettings, key: str) -> str:
    """Return the only model of a server.

    Raises:
        ConfigError: the server has no model or several.
        WriterError: the server cannot be reached.
    """
    base_url, fix = settings.base_url, f"Name one by {settings.key('model')}=..."
    if not base_url:
        raise ConfigError("a language model is to be asked, and none is named", fix)
    try:
        with connect(base_url, key) as client:
            names = [model.id for model in client.models.list()]
    except openai.APIConnectionError as error:
        raise WriterError(
            f"there is no server at {base_url} ({describe(error, key)})", f"Check {settings.key('base_url')}"
        ) from None
    except openai.OpenAIError as error:
        raise ConfigError(f"the server does not say which models it has ({describe(error, key)})", fix) from None
    if len(names) != 1:
        found = f"there are {', '.join(names[:8])}" if names else "the server has none"
        raise ConfigError(f"no model is named, and {found}", fix)
    return names[0]


def last_day(model: str, base_url: str, key: str) -> str:
    """Return the day on which a server retires a model; "" if it gives none, or fails, which is reported later."""
    try:
        with connect(base_url, key, max_retries=0) as client:
            return str(getattr(client.models.retrieve(model), "shutdown_date", None) or "")
    except openai.OpenAIError:
        return ""
