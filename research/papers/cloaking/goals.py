"""What was asked of the presets, and what they reached."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from research.papers.cloaking.figures import JUDGE, STRONG, CloakRow, Figures
from research.papers.markdown import table

COPIES_COST = 0.03  # points of rank-1 that what happens to a photo may give back
CLOAKED_TO_CLOAKED = 0.05


@dataclass(frozen=True)
class Goal:
    """Of a preset: SSIM, rank-1 and same person at FAR 1 % unseen, rank-1 left out, CIEDE2000."""

    ssim: float
    rank_1: float
    same: float
    left_out: float | None
    color: float | None


GOALS = {
    "high": Goal(0.94, 0.02, 0.04, 0.15, 3.5),
    "medium": Goal(0.96, 0.05, 0.08, 0.30, 2.0),
    "low": Goal(0.975, 0.25, 0.25, None, None),
}


def goals(
    lines: Sequence[CloakRow],
    apart: Sequence[CloakRow],
    exchange: Mapping[str, Mapping[str, Figures]],
) -> str:
    """Write a table: each goal, met or missed, with the figure."""
    rows = [row for line in lines if line.name in GOALS for row in _of(line, GOALS[line.name])]
    for line in apart:
        limit = GOALS[line.name].left_out if line.name in GOALS else None
        for judge in STRONG:
            if limit is not None and judge not in line.searched:
                found = line.figures[judge]["delivered"].rank_1.value
                name = f"left out: `{judge}`, rank-1 at most {limit:.0%}"
                rows.append((line.name, name, _met(found <= limit, f"{found:.1%}")))
    for name, cases in exchange.items():
        both = cases["cloaked probe, cloaked gallery"].rank_1.value
        text = f"cloaked against cloaked, `{name}`, rank-1 at most {CLOAKED_TO_CLOAKED:.0%}"
        rows.append(("high", text, _met(both <= CLOAKED_TO_CLOAKED, f"{both:.1%}")))
    return table(("preset", "goal", ""), rows)


def _of(line: CloakRow, goal: Goal) -> Iterator[tuple[str, str, str]]:
    ssim = float(line.changed.ssim.mean())
    # What is written is what is judged: a mean of .9597 is .960.
    met = round(ssim, 3) >= goal.ssim
    yield line.name, f"SSIM at least {goal.ssim:g}", _met(met, f"{ssim:.3f}")
    for name in STRONG:
        found = line.figures[name]["delivered"].rank_1.value
        yield line.name, f"white box, `{name}`, rank-1 0 %", _met(found == 0, f"{found:.1%}")
    unseen = line.figures[JUDGE]["delivered"]
    text = f"unseen, `{JUDGE}`, rank-1 at most {goal.rank_1:.0%}"
    yield line.name, text, _met(unseen.rank_1.value <= goal.rank_1, f"{unseen.rank_1.value:.1%}")
    same = unseen.accepted[0]
    if same is not None:
        text = f"unseen, `{JUDGE}`, same person at FAR 1 % at most {goal.same:.0%}"
        yield line.name, text, _met(same.value <= goal.same, f"{same.value:.1%}")
    if goal.color is not None:
        median = float(line.changed.color[:, 0].mean())
        text = f"median CIEDE2000 at most {goal.color:g}"
        yield line.name, text, _met(median <= goal.color, f"{median:.2f}")
    for copy in ("jpeg", "half", "blur", "median", "denoised"):
        cost = max(
            variants[copy].rank_1.value - variants["delivered"].rank_1.value
            for variants in line.figures.values()
        )
        text = f"{copy} costs at most {100 * COPIES_COST:.0f} points with any recognizer"
        yield line.name, text, _met(cost <= COPIES_COST, f"{100 * cost:+.1f} points")


def _met(met: bool, figure: str) -> str:
    return f"{'met' if met else '**missed**'}: {figure}"
