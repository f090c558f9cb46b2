"""Rate limits of a server: when the next request may be sent."""

import asyncio
import time
from collections.abc import Mapping

from ip2p.errors import WriterError
from ip2p.remote.faults import RESUME_HINT, parse_duration

MAX_WAIT = 900.0
"""Largest number of seconds to wait for a server; if it asks for more, the run stops."""

LIMITS = ("requests", "tokens")


class RateLimiter:
    """Delays all requests as the response to any of them says."""

    def __init__(self) -> None:
        self._closed_until = 0.0

    async def wait(self) -> None:
        """Wait until the next request may be sent.

        Raises:
            WriterError: the wait would be longer than `MAX_WAIT`.
        """
        while (left := self._closed_until - time.monotonic()) > 0:
            if left > MAX_WAIT:
                raise WriterError(f"the server takes no requests for {left / 60:.0f} minutes", f"Then: {RESUME_HINT}")
            await asyncio.sleep(left)

    def pause(self, length: float) -> None:
        """Send no request for some seconds from now; never shortens a pause."""
        self._closed_until = max(self._closed_until, time.monotonic() + length)

    def read_headers(self, headers: Mapping[str, str], tokens: int) -> None:
        """Read the rate limits in the headers of a response.

        Args:
            headers: headers, such as Retry-After and OpenAI's x-ratelimit-*.
            tokens: largest number of tokens of the next request.
        """
        self.pause(parse_duration(headers.get("retry-after")))
        for what in LIMITS:
            left = headers.get(f"x-ratelimit-remaining-{what}", "")
            needed = 1 if what == "requests" else tokens
            if left.isdecimal() and int(left) < needed:
                self.pause(parse_duration(headers.get(f"x-ratelimit-reset-{what}")))
