"""Tables: valid Markdown whose columns also align."""

from ip2p.measuring.tables import markdown_table


def test_columns_align_and_keep_every_cell() -> None:
    table = markdown_table(["method", "n", "score"], [["editor", "3", "100.0"], ["copy [of] it", "12", "-"]])
    lines = table.splitlines()
    assert [line.count("|") for line in lines] == [4] * 4 and len({len(line) for line in lines}) == 1
    assert [cell.strip() for cell in lines[3].split("|")[1:-1]] == ["copy [of] it", "12", "-"]
    assert lines[2].index("editor") == lines[3].index("copy") and lines[2].rstrip(" |").endswith("100.0")
