"""Numbers with their nouns."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun: "1 fault", "2 faults"; `plural` where that is not the noun with an s."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
