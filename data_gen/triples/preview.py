"""A preview of the text stage: the messages sent for each caption, the answer, and the results of the checks."""

from collections.abc import Iterator, Sequence

from ip2p.data_gen.config import DatasetConfig
from ip2p.data_gen.triples.proposals import Writer
from ip2p.data_gen.triples.tokens import token_counter
from ip2p.data_gen.triples.write import EarlierShards, write_triples
from ip2p.records import Caption
from ip2p.remote.reply_text import strip_invisible


def preview(captions: Sequence[Caption], writer: Writer, config: DatasetConfig) -> Iterator[str]:
    """Yield lines about each caption, without storing anything.

    Raises:
        WriterError: the writer cannot be reached, or refuses.
    """
    settings = config.triples
    writer.prepare(captions, settings.per_caption)
    seen, count_tokens = EarlierShards(settings.checks), token_counter(config.pairs.model, settings.checks.max_tokens)
    for caption in captions:
        yield f"caption: {caption.text}"
        asked, answered = writer.conversation(caption, settings.per_caption)
        if asked:
            yield "asked:"
            yield from (f"  {turn['role']}: {_one_line(turn['content'])}" for turn in asked)
            yield f"answered: {_one_line(answered) or 'nothing that can be read'}"
        for row in write_triples([caption], writer, settings, seen=seen, count_tokens=count_tokens):
            verdict = "ok" if row.status == "ok" else f"refused: {row.reason.value}"
            yield f"{verdict:>24}  [{row.kind}] {row.instruction or '-'}  ->  {row.edited_caption or '-'}"
            if row.long_instruction:
                yield f"{'long form':>24}  {row.long_instruction}"
        yield ""


def _one_line(text: str) -> str:
    """Put an untrusted text in one line, without characters that control the terminal."""
    return " ".join(strip_invisible(text).split())
