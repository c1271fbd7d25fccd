"""The page of results of ``research.papers.cloaking``."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from research.papers.cloaking.figures import (
    EXCHANGED,
    FALSE_ACCEPTS,
    JUDGE,
    STRONG,
    SURROGATE,
    CloakRow,
    Crowd,
    Figures,
)
from research.papers.cloaking.goals import goals
from research.papers.cloaking.verdicts import Said, reliability
from research.papers.markdown import table
from services.worker.evaluation.metrics import Rate

# Published by Shan et al. 2020, on other people and other recognizers: for orientation only. Their
# budget of DSSIM, (1 - SSIM) / 2, is .007. The time is what users of it report.
FAWKES_SSIM = "0.986"
FAWKES_TIME = "60-240"
COPIES = ("delivered", "jpeg", "half", "blur", "median", "denoised")
NOTES = {
    STRONG[0]: "strong; the network behind the package face_recognition",
    STRONG[1]: "strong; trained on MS-Celeb-1M, a lineage of its own",
    SURROGATE: f"the student of `{STRONG[1]}`: of its lineage",
    JUDGE: "weak; learned from labels of `faces/train` alone, a third lineage",
}

Exchange = Mapping[str, Mapping[str, Figures]]


def page(
    crowd: Crowd,
    clean: Mapping[str, Figures],
    lines: Sequence[CloakRow],
    apart: Sequence[CloakRow],
    controls: Sequence[CloakRow],
    exchange: Exchange,
    said: Sequence[Said],
    *,
    command: str,
    folder: str = "faces/test",
) -> str:
    """Write all tables as Markdown. ``lines`` were searched with all, ``apart`` with one of them.

    ``clean`` has what each recognizer knows of unchanged photos.
    """
    names = list(clean)
    parts = [
        "# How well `encrypt` protects\n",
        f"Written by `{command} --out docs/results/encrypt.md`; nothing was filled in by hand.\n",
        f"{len(crowd.probes)} people of `{folder}`, one photo each as a probe and another in the "
        f"gallery, beside {len(crowd.distractors)} further people (`faces/distractors`): an open "
        "set. Each photo went through the whole pipeline, was written as a JPEG with its source's "
        "tables, read again, and its face found again. Brackets: 95 % Wilson intervals. No photo "
        "of these folders was used to train a recognizer or to choose a setting. *TAR*: the share "
        "called the same person as on the gallery's photo, at a threshold of clean photos.\n",
        *(f"- `{name}`: {NOTES[name]}" for name in names),
        "\n## Presets\n",
        f"Searched with {_listed(STRONG)}. For them the figures are white box; the others are "
        "unseen.\n",
        table(_head("preset"), _rows("none", clean, lines, names)),
        "## One strong lineage left out\n",
        "The same, searched with one of the two strong recognizers and judged by the other: how "
        "well a cloak carries over to a strong recognizer that nobody had.\n",
        table(
            ("preset", "searched with", "judged by", "rank-1", *_accepted(), "SSIM"),
            _apart_rows(apart),
        ),
        "## How it looks\n",
        "Structural similarity (SSIM), PSNR and CIEDE2000 of the face in the delivered photo, not "
        "of the whole photo: means over the faces of each face's figure.\n",
        table(
            ("preset", "SSIM", "PSNR", "CIEDE2000 median", "mean", "99th percentile", "s a face"),
            ((line.name, _ssim(line), _psnr(line), *_color(line), _time(line)) for line in lines),
        ),
        "## After it was shared\n",
        "Rank-1 of the cloaked probe as delivered, and after what happens to photos: JPEG q75, "
        "half the size, a Gaussian blur, a median of 3x3 and non-local means on the aligned face. "
        "These photos were coded near q75 before, and so they were delivered: the JPEG here has "
        "its blocks elsewhere, as after a crop.\n",
        table(
            ("preset", "recognizer", *COPIES),
            (
                (line.name, name, *(_rate(line.figures[name][v].rank_1) for v in COPIES))
                for line in lines
                for name in names
            ),
        ),
        "## What the verdict says\n",
        reliability(said),
        "## Who holds which photo\n",
        _exchange(exchange),
        "## Controls\n",
        "What people do without a cloak: blur or squares over the face, sizes in pixels of the "
        "160 px aligned face.\n",
        table(
            ("control", "SSIM", *(f"rank-1, {name}" for name in names)),
            (
                (line.name, _ssim(line), *(_first(line, name) for name in names))
                for line in controls
            ),
        ),
        "## Goals\n",
        goals(lines, apart, exchange),
        "## Beside Fawkes\n",
        _fawkes(lines, clean, exchange),
    ]
    return "\n".join(parts)


def _listed(names: Iterable[str]) -> str:
    return " and ".join(f"`{name}`" for name in names)


def _accepted() -> tuple[str, ...]:
    return tuple(f"TAR at FAR {rate:.1%}" for rate in FALSE_ACCEPTS)


def _head(first: str) -> tuple[str, ...]:
    return (first, "recognizer", "rank-1", "rank-5", *_accepted(), "SSIM")


def _rows(
    name: str, clean: Mapping[str, Figures], lines: Sequence[CloakRow], names: Sequence[str]
) -> Iterable[tuple[str, ...]]:
    for one in names:
        yield (name, one, *_figures(clean[one]), "1")
    for line in lines:
        for one in names:
            found = line.figures[one]["delivered"]
            role = f"{one} (white box)" if one in line.searched else one
            yield (line.name, role, *_figures(found), _ssim(line))


def _apart_rows(apart: Sequence[CloakRow]) -> Iterable[tuple[str, ...]]:
    for line in apart:
        for judge in STRONG:
            if judge not in line.searched:
                found = line.figures[judge]["delivered"]
                yield (
                    line.name,
                    line.searched[0],
                    judge,
                    _rate(found.rank_1),
                    *(_rate(rate) for rate in found.accepted),
                    _ssim(line),
                )


def _figures(found: Figures) -> tuple[str, ...]:
    return (_rate(found.rank_1), _rate(found.rank_5), *(_rate(rate) for rate in found.accepted))


def _rate(rate: Rate | None) -> str:
    if rate is None:
        return "too few people"
    low, high = 100 * rate.low, 100 * rate.high
    return f"{rate.value:.1%} [{low:.1f}, {high:.1f}]"


def _first(line: CloakRow, name: str) -> str:
    return _rate(line.figures[name]["delivered"].rank_1)


def _ssim(line: CloakRow) -> str:
    return f"{line.changed.ssim.mean():.3f}"


def _psnr(line: CloakRow) -> str:
    finite = line.changed.psnr[np.isfinite(line.changed.psnr)]
    return f"{finite.mean():.1f} dB" if len(finite) else ""


def _color(line: CloakRow) -> tuple[str, ...]:
    return tuple(f"{value:.2f}" for value in line.changed.color.mean(0))


def _time(line: CloakRow) -> str:
    return f"{line.changed.seconds / len(line.changed.ssim):.2f}"


def _exchange(exchange: Exchange) -> str:
    if not exchange:
        return f"Not measured in this run: it needs the preset `{EXCHANGED}`.\n"
    names = list(exchange)
    text = (
        f"Preset `{EXCHANGED}`, the first {next(iter(exchange[names[0]].values())).rank_1.total} "
        "people. In the last line the gallery is embedded anew with cloaked photos beside the "
        "clean ones.\n\n"
    )
    return text + table(
        ("case", *(f"rank-1, {name}" for name in names)),
        (
            (case, *(_rate(exchange[name][case].rank_1) for name in names))
            for case in exchange[names[0]]
        ),
    )


def _fawkes(lines: Sequence[CloakRow], clean: Mapping[str, Figures], exchange: Exchange) -> str:
    """Set figures beside those that Fawkes published for the same case."""
    line = next((line for line in lines if line.name == EXCHANGED), lines[-1])
    known = clean[STRONG[0]].rank_1.value

    def lowered(case: str) -> str:
        if not exchange or not known:
            return "not measured"
        return f"{1 - exchange[STRONG[0]][case].rank_1.value / known:.0%}"

    rows = (
        ("recognizer learned from cloaked photos", "over 95 %", "clean probe, cloaked gallery"),
        ("it has clean photos, too", "over 80 %", "cloaked probe, both in the gallery"),
    )
    text = (
        "Fawkes' figures (Shan et al. 2020) are of other people and of recognizers that are "
        f"trained on what they hold; here `{STRONG[0]}`, which embeds it and was searched with. "
        "*Protection*: the share of rank-1 that is lost.\n\n"
    )
    return text + table(
        ("", "Fawkes", f"`{line.name}`"),
        (
            *((f"protection: {name}", theirs, lowered(case)) for name, theirs, case in rows),
            ("SSIM", FAWKES_SSIM, _ssim(line)),
            ("seconds on a CPU", f"{FAWKES_TIME} a photo", f"{_time(line)} a face"),
        ),
    )
