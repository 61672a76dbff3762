"""Tables of a Markdown document that are made from what the code does, so that they cannot grow old.

A table stands between ``<!-- table: NAME -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

__all__ = ["fill", "table"]

_BLOCK = re.compile(r"(<!-- table: (?P<name>[a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def fill(document: str, tables: Mapping[str, Callable[[], str]]) -> str:
    """Return a document with its tables as they are now.

    Parameters
    ----------
    document
        Markdown.
    tables
        What makes each table, by name.

    Raises
    ------
    KeyError
        If the document asks for a table that does not exist.

    Examples
    --------
    >>> "| of |" in fill("<!-- table: sizes -->" + chr(10) + "<!-- end -->", {"sizes": lambda: table(("of",), [("all",)])})
    True
    """
    return _BLOCK.sub(lambda block: f"{block[1]}\n{tables[block['name']]()}\n{block[3]}", document)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table: a line for the head, one a row."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)
