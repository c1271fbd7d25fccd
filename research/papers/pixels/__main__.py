"""``python -m research.papers.pixels``: runs the papers' tables.

Writes ``docs/results/pixels.md``.

Everything done is kept under ``reproduction/`` (weights, attacked pictures), so that a run that is
stopped goes on where it was. The numbers of the lines that take hours, without the pictures, are
kept under ``research/rows/``, so that another machine goes on, too.
"""

import argparse
from pathlib import Path

from research.papers.pixels.clean_cost import PAPER, clean_cost
from research.papers.pixels.page import Found, page
from research.papers.pixels.protected import protections
from research.papers.pixels.rows import all_lines
from research.papers.pixels.run import Workshop, keep_rows, load_row, run_lines
from research.papers.pixels.stored_rows import Kept

GROUPS = ("table1", "table2", "figures")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, default=Path("reproduction"))
    parser.add_argument(
        "--kept", type=Path, default=Path("research") / "rows", help="numbers of earlier runs"
    )
    parser.add_argument(
        "--out", type=Path, help="default: docs/results/pixels.md; --quick: no file"
    )
    parser.add_argument(
        "--only", nargs="*", default=[], help=f"{', '.join(GROUPS)}, or the start of lines' ids"
    )
    parser.add_argument("--quick", action="store_true", help="10 pictures, 5 generations a line")
    parser.add_argument("--no-training", action="store_true", help="leave out models not trained")
    parser.add_argument("--hours", type=float, default=24.0, help="stop then, and write the page")
    arguments = parser.parse_args()
    if not (arguments.data / "mask_classification" / "test").is_dir():
        parser.error(f"{arguments.data} has no mask_classification/test: give --data")
    lines = all_lines(quick=arguments.quick)
    wanted = [
        line
        for line in lines
        if not arguments.only or any(line.id.startswith(start) for start in arguments.only)
    ]
    if not wanted:
        parser.error(f"no line starts with {' or '.join(arguments.only)}")
    shop = Workshop(
        arguments.data,
        arguments.cache,
        not arguments.no_training,
        lambda line: print(line, flush=True),
        None if arguments.quick else Kept(arguments.kept),
    )
    run_lines(wanted, shop, seconds=arguments.hours * 3600)
    shop.may_train = False  # what follows reads what lines were done, also those not wanted now
    keep_rows(lines, shop)
    found = {line.id: Found(*done) for line in lines if (done := load_row(line, shop))}
    costs = [cost for name in PAPER if (cost := clean_cost(name, shop))]
    text = page(lines, found, shop.missing, costs, protections(shop))
    out = arguments.out or (None if arguments.quick else Path("docs") / "results" / "pixels.md")
    if out is None:
        print(text)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(out)
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
