"""The lines of the tables: what is attacked, how, and what the paper says of it."""

from dataclasses import dataclass

from research.papers.pixels.weights import RESNET
from services.worker.attacks.base import Attack
from services.worker.attacks.de import DifferentialEvolution
from services.worker.attacks.fgsm import FGSM
from services.worker.attacks.pgd import PGD

CNN, RESNET_ID, DEFAULT = "mask-cnn-32", RESNET.id, "mask-face-112"
PIXELS = (1, 3, 5)
PAPER_EPS = 12.75  # .05 of the range
EPS = (1.0, 2.0, 4.0, 8.0, PAPER_EPS, 16.0)
SHORT_REACH = 5.1  # all steps together: .02 of the range

_PAPER_1 = {CNN: ("0 %", "6 %", "11 %"), RESNET_ID: ("0 %", "1 %", "3 %")}
_PAPER_2 = {CNN: ("0 %", "2 %", "4 %"), RESNET_ID: ("0 %", "0 %", "1 %")}


@dataclass(frozen=True, kw_only=True)
class Line:
    """One attack on one model behind one defense.

    ``side`` is that of the attacked pictures in pixels. ``carved_before``: the pictures are carved
    to the model's input and then attacked (paper 000's protocol); ``defended``: seams are carved in
    between (the adaptive attack). ``transfer_of`` names the line whose attacked pictures are shown
    to this one, too.
    """

    id: str
    group: str
    title: str
    model: str
    attack: Attack
    side: int
    paper: str = "not measured"
    carved_before: bool = False
    defended: bool = False
    transfer_of: str | None = None
    images: int = 200


def all_lines(*, quick: bool) -> tuple[Line, ...]:
    """Return all lines; ``quick`` ones are small enough to try everything in minutes."""
    lines = [*_pixel_lines(quick), *_gradient_lines()]
    if not quick:
        return tuple(lines)
    return tuple(Line(**{**vars(line), "images": min(line.images, 10)}) for line in lines)


def _pixel_lines(quick: bool) -> list[Line]:
    lines = []
    generations = 5 if quick else 100
    for model, short in ((CNN, "cnn"), (RESNET_ID, "resnet34")):
        for place, k in enumerate(PIXELS):
            attack = DifferentialEvolution(
                pixels=k, population=100, generations=generations, search_bf16=True
            )
            name = f"{short}-k{k}"
            lines += [
                Line(
                    id=f"table1-{name}",
                    group="table1",
                    title=f"{k} px",
                    model=model,
                    attack=attack,
                    side=32,
                    paper=_PAPER_1[model][place],
                ),
                Line(
                    id=f"table2-{name}-carved",
                    group="table2",
                    title=f"{k} px, on pictures carved before (the paper's protocol)",
                    model=model,
                    attack=attack,
                    side=32,
                    paper=_PAPER_2[model][place],
                    carved_before=True,
                ),
                Line(
                    id=f"table2-{name}-shrunk",
                    group="table2",
                    title=f"{k} px of 64x64, no carving: plain resizing",
                    model=model,
                    attack=attack,
                    side=64,
                ),
                Line(
                    id=f"table2-{name}-through",
                    group="table2",
                    title=f"{k} px of 64x64, through the carving (adaptive)",
                    model=model,
                    attack=attack,
                    side=64,
                    defended=True,
                    transfer_of=f"table2-{name}-shrunk",
                ),
            ]
    return lines


def _gradient_lines() -> list[Line]:
    lines = []
    for eps in EPS:
        for attack, name, figure in (
            (FGSM(eps=eps), "fgsm", "57 % (Figure 12)"),
            (PGD(eps=eps, steps=10), "pgd", "81 % (Figure 14)"),
        ):
            lines.append(
                Line(
                    id=f"figures-{name}-{eps:g}",
                    group="figures",
                    title=f"{name.upper()}, eps {eps:g}/255",
                    model=DEFAULT,
                    attack=attack,
                    side=112,
                    paper=figure if eps == PAPER_EPS else "not measured",
                )
            )
    short = PGD(eps=PAPER_EPS, steps=10, step_size=SHORT_REACH / 10, random_start=False)
    lines.append(
        Line(
            id="figures-pgd-short",
            group="figures",
            title=f"PGD, eps {PAPER_EPS}/255, 10 steps of .51/255 (too short on purpose)",
            model=DEFAULT,
            attack=short,
            side=112,
            paper="81 % (Figure 14)",
        )
    )
    return lines
