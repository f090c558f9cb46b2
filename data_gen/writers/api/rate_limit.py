"""When the next request may leave: servers say how many they will take, and until when not."""

import asyncio
import time
from collections.abc import Mapping

from ip2p.data_gen.writers.api.faults import RESUME_HINT, parse_duration
from ip2p.errors import WriterError

MAX_WAIT = 900.0
"""Seconds that a run waits for a server; one that asks for more stops the run."""

LIMITS = ("requests", "tokens")


class RateLimiter:
    """One gate for all requests in flight: what a server says to one of them holds for all."""

    def __init__(self) -> None:
        self._closed_until = 0.0

    async def wait(self) -> None:
        """Until the gate is open.

        Raises:
            WriterError: that would take longer than `MAX_WAIT`.
        """
        while (left := self._closed_until - time.monotonic()) > 0:
            if left > MAX_WAIT:
                raise WriterError(f"the server takes no requests for {left / 60:.0f} minutes", f"Then: {RESUME_HINT}")
            await asyncio.sleep(left)

    def pause(self, length: float) -> None:
        """Close the gate for so many seconds from now, or longer if it is closed for longer."""
        self._closed_until = max(self._closed_until, time.monotonic() + length)

    def read_headers(self, headers: Mapping[str, str], tokens: int) -> None:
        """Read what a server says of its limits in the headers of any answer.

        Args:
            headers: Retry-After, and the x-ratelimit-* of OpenAI and those who do as it does.
            tokens: that the next request may need.
        """
        self.pause(parse_duration(headers.get("retry-after")))
        for what in LIMITS:
            left = headers.get(f"x-ratelimit-remaining-{what}", "")
            needed = 1 if what == "requests" else tokens
            if left.isdecimal() and int(left) < needed:
                self.pause(parse_duration(headers.get(f"x-ratelimit-reset-{what}")))
