"""The commands that judge cloaks and masks, on a few people."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from research.papers.cloaking import __main__ as cloaking
from research.papers.cloaking.figures import (
    JUDGE,
    STRONG,
    SURROGATE,
    Crowd,
    Judging,
    frames_of,
)
from research.papers.cloaking.portraits import (
    blurred,
    looked_at,
    pixelated,
    read_people,
    unchanged,
)
from research.papers.masks import __main__ as masks
from research.papers.masks import runs as masks_runs
from research.papers.masks.page import DesignRow, able_among, page
from services.worker.evaluation.metrics import wilson
from services.worker.faces.cloaking.config import PRESETS
from services.worker.faces.detection import FaceDetector
from services.worker.masks.evaluation import Recognized
from services.worker.masks.training import MaskConfig
from services.worker.models.recognizers import recognizer_of
from services.worker.models.registry import find_models

pytestmark = pytest.mark.shared_data


@pytest.fixture(scope="module")
def crowd(shared_data: Path) -> Crowd:
    detector = FaceDetector()
    rows = read_people(shared_data / "faces" / "train", detector, photos=2, people=8)
    return Crowd([row[1] for row in rows], [row[0] for row in rows], [])


def test_clean_probes_are_known_and_their_own_gallery_photo_always(crowd: Crowd) -> None:
    judge = Judging(recognizer_of(*find_models()["face-residual-112"]), crowd)

    clean = judge.figures(frames_of(crowd.probes))
    same = judge.figures(frames_of(crowd.gallery))
    both = judge.figures(
        frames_of(crowd.probes),
        np.concatenate([frames_of(crowd.gallery), frames_of(crowd.probes)]),
    )

    assert clean.rank_1.value > 0.7
    assert clean.rank_5.value >= clean.rank_1.value
    assert same.rank_1.value == 1
    assert same.similarity == pytest.approx(1, abs=1e-5)
    assert both.rank_1.value == 1, "the adversary has the very photo"


def test_the_first_few_are_known_as_among_all(crowd: Crowd) -> None:
    judge = Judging(recognizer_of(*find_models()["face-residual-112"]), crowd)

    few = judge.figures(unchanged(crowd.probes).first(3).frames[:, 1])

    assert few.rank_1.total == 3
    alone = judge.embed(frames_of(crowd.probes[:3])) * judge.gallery[:3]
    assert few.similarity == pytest.approx(float(alone.sum(1).mean()), abs=1e-4)


def test_controls_stay_within_the_face_and_show(crowd: Crowd) -> None:
    for change in (blurred(crowd.probes, 8.0), pixelated(crowd.probes, 20)):
        for one, photo in zip(crowd.probes, change, strict=True):
            moved = (photo != one.file.pixels).any(2)
            assert moved.any()
            assert not moved[:5].any()
    soft = looked_at(crowd.probes, blurred(crowd.probes, 8.0), FaceDetector())
    mild = looked_at(crowd.probes, blurred(crowd.probes, 2.0), FaceDetector())
    assert soft.ssim.mean() < mild.ssim.mean() < 1
    assert soft.frames.shape == (8, 5, 160, 160, 3)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_page_on_cloaks_has_every_table_and_a_second_run_does_nothing_anew(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = {name: replace(config, steps=2) for name, config in PRESETS.items()}
    monkeypatch.setattr(cloaking, "PRESETS", quick)
    out = tmp_path / "page.md"
    arguments = f"--data {shared_data} --on-train --people 4 --cache {tmp_path} --out {out}"
    arguments += " --apart-people 3 --apart high --exchange-people 2 --presets low high"
    monkeypatch.setattr(sys, "argv", ["cloaking", *arguments.split()])

    cloaking.main()
    text = out.read_text()
    monkeypatch.setattr(cloaking, "cloaked", None)  # what is kept is not made again
    cloaking.main()

    assert out.read_text() == text
    for part in (
        "Presets",
        "One strong lineage left out",
        "How it looks",
        "After it was shared",
        "What the verdict says",
        "Controls",
        "Goals",
    ):
        assert f"## {part}\n" in text
    apart = text.split("## One strong lineage left out")[1].split("##")[0]
    dlib, ms1m = STRONG
    assert [row.split(" | ")[:3] for row in apart.split("\n") if row.startswith("| high")] == [
        ["| high", dlib, ms1m],
        ["| high", ms1m, dlib],
    ], "each strong recognizer judges the search with the other"
    verdicts = text.split("## What the verdict says")[1].split("##")[0]
    assert f"| high | {dlib} | {ms1m} |" in verdicts
    assert "--people 4 --apart-people 3 --exchange-people 2 --presets low high --apart high" in text
    assert "## Beside Fawkes" in text
    assert "cloaked probe, both in the gallery" in text
    assert "nan" not in text


@pytest.mark.slow
def test_the_page_on_masks_says_what_was_trained_and_what_was_missed(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "page.md"
    arguments = (
        f"--data {shared_data} --people 6 --epochs 2 --played 1 --judged 12 --processes 1 "
        f"--cache {tmp_path} --out {out}"
    )
    monkeypatch.setattr(sys, "argv", ["masks", *arguments.split()])

    masks.main()

    text = out.read_text()
    for part in (
        "plain blue",
        "plain white",
        "random pattern",
        "another design",
        "dense, experiment 3",
        "not physically tested",
        f"`python -m research.papers.masks {arguments}`",
        "6 people of `faces/train`, `face-student-112`, 1 epochs",
    ):
        assert part in text
    assert text.count("| white box |") == 11, "seven free generators and four experiments"
    assert text.count("| held out |") == 11
    whites, held = text.split("Held out: rank-1 of at most a third")
    whites = whites.split("## Goals")[1]
    assert whites.count("| met |") + whites.count("| **missed** |") == 11
    verdicts = [line for line in held.splitlines() if " free, " in line or " experiment " in line]
    assert len(verdicts) == 11
    assert all("met" in line or "missed" in line for line in verdicts)
    rows = [line for line in text.splitlines() if line.startswith(("| 0,", "| 3,"))]
    assert rows[0] == "| 0, paper | 6.2 % | 0 % | 85 % | 100 % |"
    assert rows[2] == "| 3, paper | 0.6 % | 0 % | 85.4 % | 100 % |"
    assert all(row.count("[") == 4 for row in rows[1::2])
    monkeypatch.setattr(masks_runs, "train_masks", None)  # what is kept is not trained again
    masks.main()
    assert out.read_text() == text


def seen(rank_1: int, *, worse: int = 49, people: int = 50) -> Recognized:
    """A hundred probes of 50 people: so many are known, and ``worse`` people precede the others."""
    found = np.where(np.arange(100) < rank_1, 0, worse)
    who = np.arange(100) // 2
    return Recognized(wilson(rank_1, 100), wilson(rank_1, 100), 0.3, found, who, people)


def test_a_judge_that_knows_few_in_plain_masks_cannot_say_that_a_goal_is_met() -> None:
    teacher = "teacher"
    controls = {
        name: {SURROGATE: seen(known), JUDGE: seen(40), teacher: seen(80)}
        for name, known in (("nothing", 95), ("plain blue", 66), ("plain white", 50))
    }
    lines = [
        DesignRow(
            "pixels, free",
            (against,),
            MaskConfig(),
            1.0,
            6,
            1.0,
            {SURROGATE: seen(22), JUDGE: seen(3), teacher: seen(27)},
        )
        for against in (SURROGATE, JUDGE)
    ]

    text = page(lines, controls, people=50, probes=100, enrolled=8, command="python -m x")

    sections = text.split("## ")
    assert "knows 66.0% of the wearers of a plain blue mask: it can judge" in sections[1]
    assert "**cannot judge**" in sections[2]
    assert "shares a teacher" in sections[3]
    goals = sections[-1]
    assert "Met by 1 of 2." in goals, "22 % is too many and 3 % are few enough"
    assert "| 50 | 3.0% [" in goals
    assert "| 0.07 | cannot judge (would be met) |" in goals
    assert "| 50 | 22.0% [" in goals
    assert "| 0.33 | met |" in goals
    assert "| 0.34 | **missed** |" in goals
    assert "Met in 1 of 2 cases that can be judged." in goals


def test_a_judge_of_few_people_judges_in_the_largest_gallery_that_it_can() -> None:
    plain = seen(40, worse=1)  # one person precedes: among few, that one is often not there
    chance = {size: 0.4 + 0.6 * (50 - size) / 49 for size in range(20, 51)}
    largest = max(size for size, known in chance.items() if known >= 0.6)
    assert able_among(plain) == largest
    assert plain.among(largest).value == pytest.approx(chance[largest])
    controls = {name: {JUDGE: plain} for name in ("nothing", "plain blue")}
    ours = {SURROGATE: seen(2), JUDGE: seen(3, worse=20)}
    line = DesignRow("pixels, free", (SURROGATE,), MaskConfig(), 1.0, 6, 1.0, ours)

    text = page([line], controls, people=50, probes=100, enrolled=8, command="python -m x")

    assert f"of them among {largest} people: in galleries of so many it can judge" in text
    assert f"| {largest} | {ours[JUDGE].among(largest).value:.1%} [" in text
    assert "Met in 1 of 1 cases that can be judged." in text
    assert able_among(seen(40)) is None
    assert able_among(seen(61)) == 50


@pytest.mark.slow
def test_trainings_side_by_side_make_what_one_after_the_other_does(
    shared_data: Path, tmp_path: Path
) -> None:
    training = masks_runs.read_wearers(
        shared_data / "faces" / "train", FaceDetector(), photos=2, people=3, seed=0
    )
    two = masks.plans(1, 1)[1:3]

    made = {
        count: list(
            masks_runs.Shop(training, tmp_path / str(count), count, lambda line: None).trained(two)
        )
        for count in (1, 2)
    }

    for (plan, one), (other, both) in zip(made[1], made[2], strict=True):
        assert plan == other
        assert np.allclose(one.designs().shown, both.designs().shown, atol=1e-4)
    first, second = (trained.designs().shown for _, trained in made[1])
    assert not np.allclose(first, second, atol=1e-2)
