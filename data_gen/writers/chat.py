"""Triples as conversations in JSONL, with which a language model is fine-tuned elsewhere to write triples."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ip2p.data_gen.config import TriplesConfig
from ip2p.data_gen.writers.files import SeedTriple, read_triple_file
from ip2p.data_gen.writers.prompts import answer, question, system_message
from ip2p.data_gen.writers.seeds import open_seeds
from ip2p.errors import DataError
from ip2p.ownership import write_new
from ip2p.records import Triple
from ip2p.shards import read_shards


def export_chat(source: str, out: Path, settings: TriplesConfig) -> int:
    """Write one conversation for each caption: what a writer is told, the request, and its edits as the answer.

    Args:
        source: "" for the seed triples of the settings; a JSONL file of triples, or the folder of a build, of which
            the triples that passed are taken.
        out: JSONL file to write, with an object {"messages": [...]} on each line.
        settings: words in place of ip2p's, and whether inverse and long instructions are in the answers.

    Returns:
        The number of conversations.

    Raises:
        DataError: there are no triples, or a file is not as it should be.
    """
    triples = _read(source, settings)
    lines = [json.dumps({"messages": turns}, ensure_ascii=False) for turns in _conversations(triples, settings)]
    if not lines:
        raise DataError(f"there are no triples in {source or 'the seeds'}", "Give a file, or a build with triples")
    write_new(out, "".join(f"{line}\n" for line in lines).encode())
    return len(lines)


def _read(source: str, settings: TriplesConfig) -> Iterable[SeedTriple]:
    if not source:
        return open_seeds(settings.seeds)
    if not Path(source).is_dir():
        return read_triple_file(source)
    rows = (Triple.model_validate(row) for row in read_shards(Path(source) / "triples"))
    return [
        SeedTriple(row.caption, row.instruction, row.edited_caption, row.kind, row.inverse)
        for row in rows
        if row.status == "ok"
    ]


def _conversations(triples: Iterable[SeedTriple], settings: TriplesConfig) -> Iterator[list[dict[str, Any]]]:
    """Yield the messages about each caption, in the order of the captions; of inverses only what all edits have."""
    by_caption: defaultdict[str, list[SeedTriple]] = defaultdict(list)
    for triple in triples:
        by_caption[triple.caption].append(triple)
    for caption, edits in by_caption.items():
        inverse = settings.asks_inverse and all(each.inverse for each in edits)
        first = system_message(settings.system, inverse=inverse, long_form=settings.long_form)
        yield [
            first, question(caption, len(edits)), answer(edits, inverse=inverse, long_form=settings.long_form)
        ]  # fmt: skip
