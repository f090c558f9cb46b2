"""Tables in Markdown that also align as plain text."""

import io
from collections.abc import Iterable, Sequence

from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]], *, names: int = 1) -> str:
    """Format a table in Markdown whose columns also align as plain text.

    Args:
        header: titles of the columns.
        rows: cells, line by line.
        names: number of left-aligned columns of words; the others are right-aligned figures.
    """
    table = Table(box=MARKDOWN)
    for column, title in enumerate(header):
        table.add_column(title, justify="left" if column < names else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    stream = io.StringIO()
    Console(file=stream, width=1000, color_system=None, markup=False, emoji=False, highlight=False).print(table)
    return "\n".join(line for line in stream.getvalue().splitlines() if line.strip())
