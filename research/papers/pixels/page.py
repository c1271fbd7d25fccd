"""Writes ``docs/results/pixels.md``: our figures beside the papers', and what was not run."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from research.papers.pixels.clean_cost import PAPER, CleanCost
from research.papers.pixels.protected import Protection
from research.papers.pixels.rows import PIXELS, Line
from services.worker.evaluation.metrics import Rate
from services.worker.evaluation.paired import McNemar
from services.worker.evaluation.robustness import Row, compare, find_faults

COMMAND = "python -m research.papers.pixels --data ../shared/data"
ALPHA = 0.05
PLANNED = 200


@dataclass(frozen=True)
class Found:
    """What was run of a line."""

    row: Row
    seconds: float


Results = dict[str, Found]

_HEAD = f"""# Results beside the papers'

Written by `{COMMAND}`; nothing here was filled in by hand, and a line that was not run says so.
Pictures: a seeded random sample of `mask_classification/test`, in one order for all lines, so that
lines of one table are paired image by image as far as both go. No test picture was used to train
or choose anything. Planned are {PLANNED} pictures a line; *n* is how many were done so far, and the
same command goes on from there. Brackets: 95 % intervals (Wilson). An attack's success is counted
over pictures that were classified right before. The papers used other photos and weights, and no
intervals: their figures are for orientation, not a paired comparison.

How right the models are on all of `mask_classification/test`, and on faces found in
`mask_detection/test`, is in [models.md](../models.md), by `python -m research.measure.classifiers`;
so is how right the same recipes are across sources, which learned from `mask_classification` alone,
by `python -m research.measure.cross_source`.

Further pages, each written by one command: [recognizers.md](recognizers.md), how well the shipped
recognizers know people; [encrypt.md](encrypt.md), how well `encrypt` protects, and
[identities.md](identities.md), paper 003's own form of it;
[masks.md](masks.md), what recognizers see through mask designs, beside paper 004;
[hog.md](hog.md), patterns against HOG detectors, beside paper 002.
"""

_FIGURES = """## Paper 001: FGSM and PGD

The paper attacks its best model, Inception V3 at 299 px, at eps .05 (12.75/255) on 4,070 pictures
and reports accuracy 100 % clean (Figure 9), 57 % after FGSM (Figure 12) and 81 % after PGD
(Figure 14). Inception V3 was **not run**: its ImageNet weights are not here, and training it
needs a GPU. Ours is the shipped default, `mask-face-112` at 112 px, so only the pattern compares.
"""


def page(
    lines: Sequence[Line],
    found: Results,
    missing: dict[str, str],
    costs: Sequence[CleanCost],
    protected: Sequence[Protection] = (),
) -> str:
    """Return the page as Markdown."""
    parts = [
        _HEAD,
        _table_1(lines, found, missing),
        _table_2(lines, found, missing),
        _clean(costs),
        _protected(protected),
        _verdict(found, costs),
        _figures(lines, found),
        _checks(lines, found),
    ]
    return "\n".join(part.rstrip() + "\n" for part in parts)


def _table_1(lines: Sequence[Line], found: Results, missing: dict[str, str]) -> str:
    text = [
        "## Paper 000, Table 1: few pixels by differential evolution\n",
        "Population 100, 100 generations (10,100 queries a picture), 32x32, searched in bfloat16",
        "and confirmed in float32. Paper: n = 100.\n",
        f"Command: `{COMMAND} --only table1`\n",
        "| model | pixels | paper | ours | n | clean accuracy | median queries to success |",
        "|---|---|---|---|---|---|---|",
    ]
    for line in (line for line in lines if line.group == "table1"):
        start = f"| `{line.model}` | {line.title} | {line.paper} |"
        text.append(f"{start} {_cells(line, found, missing)}")
    return "\n".join(text)


def _table_2(lines: Sequence[Line], found: Results, missing: dict[str, str]) -> str:
    text = [
        "## Paper 000, Table 2: with seam carving\n",
        "Entropy seams, 64x64 to 32x32. The paper carves the picture and attacks the carved one:",
        "never through the defense. Below that protocol stands the adaptive attack: pixels of the",
        "64x64 picture, every query carved before it is classified; and the same attack with",
        "plain resizing in the place of the carving. *Transferred*: pictures attacked with plain",
        "resizing, then carved.\n",
        f"Command: `{COMMAND} --only table2`\n",
        "| model | attack | paper | ours | n | clean accuracy | median queries | transferred |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for line in (line for line in lines if line.group == "table2"):
        start = f"| `{line.model}` | {line.title} | {line.paper} |"
        moved = ""
        if line.id in found and (rate := found[line.id].row.transferred_success) is not None:
            moved = short(rate)
        text.append(f"{start} {_cells(line, found, missing)} {moved} |")
    return "\n".join(text)


def _clean(costs: Sequence[CleanCost]) -> str:
    text = [
        "### Clean accuracy, all test pictures\n",
        "From 64x64, resized or carved to 32x32; neither model was trained on carved pictures.\n",
        "| model | paper: resized, carved | resized | carved | only one right; McNemar's p |",
        "|---|---|---|---|---|",
    ]
    for cost in costs:
        paper, test = " and ".join(PAPER[cost.model]), cost.test
        text.append(
            f"| `{cost.model}` | {paper} | {short(cost.resized)} | {short(cost.carved)} | "
            f"{test.only_first} resized, {test.only_second} carved; p = {test.p:.2g} |"
        )
    return "\n".join(text)


def _protected(protections: Sequence[Protection]) -> str:
    text = [
        "### Seams kept out of the face\n",
        "Faces of `mask_detection/test`, cut to 64x64 by their labeled boxes, with a margin of",
        "15 %; resized, carved, or carved with a weight map that keeps seams in the margin as long",
        "as it lasts (half of all columns and rows have to go, the margins are 23 %).\n",
        "| model | resized | carved | carved, face protected | only one right; McNemar's p |",
        "|---|---|---|---|---|",
    ]
    for found in protections:
        test = found.test
        text.append(
            f"| `{found.model}` | {short(found.resized)} | {short(found.carved)} | "
            f"{short(found.protected)} | {test.only_first} free, {test.only_second} protected; "
            f"p = {test.p:.2g} |"
        )
    return "\n".join(text if protections else [*text[:1], "Not run: no labeled faces here."])


def _verdict(found: Results, costs: Sequence[CleanCost]) -> str:
    """Say what seam carving buys, from what was measured and no more."""
    text = ["### What seam carving buys, and what it does not\n"]
    for cost in costs:
        points = 100 * (cost.carved.value - cost.resized.value)
        shown = "a cost beyond doubt" if cost.test.p < ALPHA and points < 0 else "no cost shown"
        text.append(
            f"- Clean pictures, `{cost.model}`: carving changes accuracy by {points:+.1f} points "
            f"(p = {cost.test.p:.2g}): {shown}."
        )
    for k in PIXELS:
        name = f"table2-cnn-k{k}"
        pair = found.get(f"{name}-shrunk"), found.get(f"{name}-through")
        if pair[0] is None or pair[1] is None:
            text.append(f"- {k} px: not measured yet.")
            continue
        bare, carved = _shared(pair[0].row, pair[1].row)
        tests = compare_rows(bare, carved)
        text.append(
            f"- {k} px, {len(bare.indices)} pictures: success {short(bare.adaptive_success)} with "
            f"plain resizing, {short(carved.adaptive_success)} through the carving (McNemar on "
            f"pictures still right: {tests.only_first} only with resizing, {tests.only_second} "
            f"only with carving, p = {tests.p:.2g}); clean accuracy "
            f"{short(bare.clean_accuracy)} and {short(carved.clean_accuracy)}; "
            f"{_buys(tests, len(bare.indices))}"
        )
    text.append(
        "\nA lower success on pictures carved beforehand says nothing of the defense: there the "
        "attacker's pixels are never carved. A defense is judged by the attack that goes through "
        "it; where the test finds no difference, n bounds what could have been found."
    )
    return "\n".join(text)


def _buys(test: McNemar, images: int) -> str:
    if test.p >= ALPHA:
        few = f" (planned: {PLANNED}; so few decide little)" if images < PLANNED else ""
        return f"no difference shown{few}."
    helps = test.only_second > test.only_first
    return "carving helps here." if helps else "carving harms here, clean errors included."


def compare_rows(bare: Row, carved: Row) -> McNemar:
    """Pair the attack through plain resizing with the one through the carving."""
    return compare(carved, bare).adaptive


def _shared(one: Row, other: Row) -> tuple[Row, Row]:
    """Cut two rows down to the pictures that both have."""
    both = [index for index in one.indices if index in set(other.indices)]
    return _only(one, both), _only(other, both)


def _only(row: Row, indices: list[int]) -> Row:
    places = [row.indices.index(index) for index in indices]
    results = tuple(row.adaptive.results[place] for place in places)
    batch = replace(row.adaptive, results=results)
    return replace(
        row,
        indices=tuple(indices),
        attack=batch.attack,
        clean=row.clean[places],
        adaptive=batch,
        transferred=None if row.transferred is None else row.transferred[places],
    )


def _figures(lines: Sequence[Line], found: Results) -> str:
    text = [
        _FIGURES,
        f"Command: `{COMMAND} --only figures`; PGD: 10 steps of .25 eps from a random point.\n",
        "| attack | paper: accuracy left | ours: accuracy left | n | clean |",
        "|---|---|---|---|---|",
    ]
    for line in (line for line in lines if line.group == "figures"):
        if line.id not in found:
            text.append(f"| {line.title} | {line.paper} | not run | | |")
            continue
        row = found[line.id].row
        left, clean = short(row.robust_accuracy), short(row.clean_accuracy)
        text.append(f"| {line.title} | {line.paper} | {left} | {len(row.indices)} | {clean} |")
    text.append(
        "\nA PGD that leaves more accuracy than FGSM at the same eps, as the paper's does, is the "
        "mark of steps too short to reach eps. The last line makes that mistake on purpose."
    )
    return "\n".join(text)


def _checks(lines: Sequence[Line], found: Results) -> str:
    rows = [found[line.id].row for line in lines if line.id in found]
    text = ["## Sanity gates\n"]
    warnings = find_faults(rows)
    text += [f"- {warning}" for warning in warnings] or ["All passed."]
    hours = sum(part.seconds for part in found.values()) / 3600
    text.append(f"\nTime spent on all lines: {hours:.2f} h, torch {torch.__version__}, CPU.")
    return "\n".join(text)


def _cells(line: Line, found: Results, missing: dict[str, str]) -> str:
    if line.id not in found:
        why = missing.get(line.model)
        return f"not run{f': {why}' if why else ''} | | | |"
    row = found[line.id].row
    queries = "" if row.median_queries is None else f"{row.median_queries:,.0f}"
    clean, n = short(row.clean_accuracy), len(row.indices)
    return f"{short(row.adaptive_success)} | {n} | {clean} | {queries} |"


def short(rate: Rate) -> str:
    """Return a rate as the page shows it."""
    if not rate.total:
        return "–"
    low, high = 100 * rate.low, 100 * rate.high
    return f"{100 * rate.value:.1f} % [{low:.1f}, {high:.1f}] ({rate.successes}/{rate.total})"
