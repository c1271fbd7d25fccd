"""The report of a data set as a page for people."""

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

# Names in it are strangers': the page runs no script, loads nothing and is of no origin.
PAGE_HEADERS = {
    "Cache-Control": "private, no-cache",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
}
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem}"
    "table{border-collapse:collapse;width:100%;margin:1rem 0}"
    "th,td{border-bottom:1px solid #ccc;padding:.4rem .6rem;text-align:left;vertical-align:top}"
    "td.n{text-align:right}"
)
_CHANGES = (
    ("boxes", "boxes taken in"),
    ("boxes_turned", "turned with their photo"),
    ("boxes_scaled", "scaled from another size"),
    ("boxes_clipped", "clipped at the photo's edge"),
    ("boxes_left_out", "boxes left out"),
    ("files_left_out", "files left out"),
    ("files_ignored", "files ignored by rule"),
)


def report_page(dataset: Mapping[str, Any]) -> str:
    """Return HTML of a data set's view; everything that strangers named is escaped."""
    report = dataset["report"]
    parts = [
        "<!doctype html>",
        '<html lang="en"><meta charset="utf-8">',
        f"<title>{escape(dataset['name'])}</title><style>{_STYLE}</style>",
        f"<h1>{escape(dataset['name'])}</h1>",
        f"<p>{dataset['images']} pictures of {len(dataset['classes'])} classes</p>",
        _table(("split", "class", "examples"), _counts(dataset["counts"])),
    ]
    if report is None:
        parts.append("<p>There is no report of this data set.</p>")
        return "\n".join(parts)
    parts += [
        f"<h2>Read as {escape(report['format'])}</h2>",
        _table(("", ""), ((told, report[key]) for key, told in _CHANGES)),
        *(f"<p>{escape(note)}</p>" for note in report["notes"]),
    ]
    if report["left_out"]:
        rows = (
            (row["sentence"], row["files"], row["boxes"], "\n".join(row["examples"]))
            for row in report["left_out"]
        )
        parts += ["<h2>Left out</h2>", _table(("why", "files", "boxes", "examples"), rows)]
    return "\n".join(parts)


def _counts(counts: Mapping[str, Mapping[str, int]]) -> Iterable[tuple[str, str, int]]:
    for split, classes in counts.items():
        for name, number in list(classes.items())[:200]:
            yield split, name, number


def _table(head: tuple[str, ...], rows: Iterable[tuple[str | int, ...]]) -> str:
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = [f"<table><tr>{cells}</tr>"]
    lines += [f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows]
    return "".join([*lines, "</table>"])


def _cell(value: str | int) -> str:
    if isinstance(value, int):
        return f'<td class="n">{value}</td>'
    return f"<td>{'<br>'.join(escape(line) for line in value.splitlines())}</td>"
