"""Markdown tables."""

from collections.abc import Iterable, Sequence


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Format rows as a Markdown table: first column left-aligned, the others right-aligned.

    Cells are converted by `str`, and lines end with a newline.

    Example
    -------
    >>> print(markdown_table(["model", "RTF"], [["papez", 0.43]]), end="")
    | model | RTF |
    | --- | --: |
    | papez | 0.43 |
    """
    rule = ["---", *["--:"] * (len(head) - 1)]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in (head, rule, *rows))


def format_number(value: float | None, digits: int = 2) -> str:
    """Format a number with fixed digits; None becomes a dash.

    Example
    -------
    >>> format_number(1.2345), format_number(None)
    ('1.23', '–')
    """
    return "–" if value is None else f"{value:.{digits}f}"
