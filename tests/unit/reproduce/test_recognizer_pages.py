"""The commands that judge cloaks and masks, on a few people."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from services.reproduce import cloaking, masks
from services.reproduce.cloaking_figures import Crowd, Judging, frames_of
from services.reproduce.portraits import blurred, looked_at, pixelated, read_people
from services.worker.faces.cloaking.config import PRESETS
from services.worker.faces.detection import FaceDetector
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
    monkeypatch.setattr(cloaking, "CURVE", (4.0,))
    out = tmp_path / "page.md"
    arguments = f"--data {shared_data} --on-train --people 4 --cache {tmp_path} --out {out}"
    monkeypatch.setattr(sys, "argv", ["cloaking", *arguments.split(), "--presets", "low", "high"])

    cloaking.main()
    text = out.read_text()
    monkeypatch.setattr(cloaking, "cloaked", None)  # what is kept is not made again
    cloaking.main()

    assert out.read_text() == text
    for part in ("## Presets", "## After it was shared", "## Controls", "## Goals", "pixelation"):
        assert part in text
    assert "cloaked probe, both in the gallery" in text
    assert "nan" not in text


def test_the_page_on_masks_says_what_was_trained_and_what_was_missed(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "page.md"
    arguments = (
        f"--data {shared_data} --people 6 --epochs 2 --judged 12 --cache {tmp_path} --out {out}"
    )
    monkeypatch.setattr(sys, "argv", ["masks", *arguments.split()])

    masks.main()

    text = out.read_text()
    for part in ("plain blue", "random pattern", "dense, experiment 3", "not physically tested"):
        assert part in text
    verdicts = text.count("| met: ") + text.count("| **missed**: ")
    assert verdicts == 2 * 7, "two goals for each of three generators and four experiments"
    rows = [line for line in text.splitlines() if line.startswith(("| 0,", "| 3,"))]
    assert rows[0] == "| 0, paper | 6.2 % | 0 % | 85 % | 100 % |"
    assert rows[2] == "| 3, paper | 0.6 % | 0 % | 85.4 % | 100 % |"
    assert all(row.count("[") == 4 for row in rows[1::2])
    monkeypatch.setattr(masks, "train_masks", None)  # what is kept is not trained again
    masks.main()
    again = out.read_text()
    assert [line for line in again.splitlines() if line.startswith(("| 0,", "| 3,"))] == rows
