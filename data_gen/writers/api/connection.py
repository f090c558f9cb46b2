"""Connections to a server: checked before the first request, so that nothing is booked for one that cannot be sent."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai

from ip2p.data_gen.writers.api.faults import KEY_VARIABLE
from ip2p.errors import ConfigError, WriterError, one_line

TIMEOUT = 60.0
"""Time limit of a request in seconds; the SDK's default of ten minutes would block a worker for half an hour."""
HEADER_VARIABLES = ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID")
"""Environment variables that the SDK sends as headers, beside the key."""
PROXY_HINT = (
    "Check HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and SSL_CERT_FILE in the environment; SOCKS needs: "
    "pip install 'httpx2[socks]'"
)


def connect(base_url: str, key: str, **options: Any) -> openai.OpenAI:
    """Return a synchronous client; a local server accepts any key, but the SDK requires one.

    Raises:
        ConfigError: the address is none.
        WriterError: the key cannot be sent, or the proxy not be used.
    """
    with _checked(base_url, key):
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
def _checked(base_url: str, key: str) -> Iterator[None]:
    """Check what the requests are made of, and turn the errors of a client that cannot be made into ours."""
    for name, text in ((KEY_VARIABLE, key), *((name, os.environ.get(name, "")) for name in HEADER_VARIABLES)):
        place = next((place for place, sign in enumerate(text, 1) if not " " <= sign <= "~"), 0)
        if place:
            what = f"character {place} of {name} is none that a request can carry"
            raise WriterError(what, "Copy it again, without line breaks or typographic signs")
    if base_url:
        _check_address(base_url)
    try:
        yield
    except (ImportError, ValueError, OSError, httpx2.InvalidURL) as error:
        raise WriterError(f"no request can be sent to {base_url or 'OpenAI'} ({one_line(error)})", PROXY_HINT) from None


def _check_address(base_url: str) -> None:
    try:
        parts = urlsplit(base_url)
        if parts.scheme in ("http", "https") and parts.hostname and " " not in base_url and (parts.port or 1):
            return
    except ValueError:
        pass
    raise ConfigError(f"{base_url!r} is no address of a server", "Set triples.base_url, as in http://localhost:8000/v1")
