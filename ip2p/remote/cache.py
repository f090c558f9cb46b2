"""Answers that another build has paid for, in its ledger: they belong to the user, and are not asked for again."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ip2p.errors import ConfigError, reason
from ip2p.remote.ledger import LEDGER_FILE, Answer, Ledger


class Cache(NamedTuple):
    """The answers in a ledger of another build, whose requests are paid for.

    Attributes:
        answers: answers by key of the question.
        notes: other recorded values by name, such as the verdicts of a moderation.
    """

    answers: dict[str, Answer]
    notes: dict[str, Any]

    def give(self, ledger: Ledger, rooms: Mapping[str, int]) -> int:
        """Let a ledger take over answers that it does not have, so that it needs this one no more.

        Args:
            ledger: ledger of the build.
            rooms: largest number of tokens of an answer, by key of the question; other questions are left out.

        Returns:
            The number of answers that were taken over.
        """
        missing = {key: room for key, room in rooms.items() if key in self.answers and not ledger.find(key, room)}
        found = {key: self.answers[key] for key, room in missing.items() if self.answers[key].is_final(room)}
        names = [f"flagged {key}" for key in found]
        ledger.adopt(found, {name: self.notes[name] for name in names if name in self.notes})
        return len(found)


def read_cache(place: Path, name: str = LEDGER_FILE, *, key: str = "triples.cache") -> Cache:
    """Read the answers in a ledger without locking it, so that another run may be writing to it.

    Args:
        place: the file, or a folder of a build that has one.
        name: name of the ledger in such a folder.
        key: key of the config that names the place.

    Raises:
        ConfigError: there is no ledger, or a file without a single answer.
    """
    path, cache = place / name if place.is_dir() else place, Cache({}, {})
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        fix = f"Give the folder of a build that has {name}, or that file"
        raise ConfigError(f"there are no answers in {key}={place} ({reason(error)})", fix) from None
    for line in lines:
        try:
            found = json.loads(line)
            if "key" in found:
                cache.answers[found["key"]] = Answer(found["text"], found["reason"], found.get("room", 0))
            if "note" in found:
                cache.notes[found["note"]] = found["value"]
        except (ValueError, KeyError, TypeError):  # a line that is being written, or was torn: it is asked again
            continue
    if not cache.answers and any(line.strip() for line in lines):
        fix = f"Give the folder of a build that has {name}, or that file"
        raise ConfigError(f"there are no answers in {key}={place}", fix)
    return cache
