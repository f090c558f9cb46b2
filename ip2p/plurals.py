"""Numbers with their nouns and units."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun: "1 fault", "2 faults"; `plural` where that is not the noun with an s."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def duration(seconds: int | float) -> str:
    """A duration in the unit that suits it: "0.25 s", "49.4 min", "120 h"."""
    for unit, length in (("h", 3600), ("min", 60)):
        if (number := seconds / length) >= 2:
            return f"{number:.0f} {unit}" if number >= 100 else f"{number:.3g} {unit}"
    return f"{seconds:.3g} s"
