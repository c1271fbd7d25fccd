"""Tables of the pages of results, and where the pages go."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table as Markdown."""
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def deliver(text: str, out: Path | None, say: Callable[[str], None]) -> None:
    """Write a page to a file, or print it where none is named."""
    if out is None:
        print(text)
        return
    out.write_text(text, encoding="utf-8")
    say(f"wrote {out}")
