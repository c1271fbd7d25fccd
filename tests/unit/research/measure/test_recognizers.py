"""The command that judges recognizers on people held out."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from research.measure import recognizers as judge_recognizers
from research.measure.recognizers import draw_different, read_pairs


def test_pairs_are_those_of_one_person_of_whom_both_photos_are_there(tmp_path: Path) -> None:
    listed = tmp_path / "pairs.txt"
    listed.write_text("10\t300\nAnna\t1\t3\nAnna\t1\t2\nBen\t2\t11\nAnna\t1\tBen\t2\n")

    pairs = read_pairs(listed, ["Anna_0001", "Ben_0002", "Anna_0003", "Ben_0011"])

    assert pairs.tolist() == [[0, 2], [1, 3]]


def test_drawn_pairs_show_two_people_and_depend_on_the_seed() -> None:
    people = np.array([0, 0, 0, 1, 2, 2])

    pairs = draw_different(people, 50, seed=1)

    assert pairs.shape == (50, 2)
    assert (people[pairs[:, 0]] != people[pairs[:, 1]]).all()
    assert np.array_equal(pairs, draw_different(people, 50, seed=1))
    assert not np.array_equal(pairs, draw_different(people, 50, seed=2))


@pytest.mark.shared_data
def test_the_page_has_a_line_for_every_recognizer_that_ships(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces = tmp_path / "data" / "faces"
    wanted = [one for one in sorted((shared_data / "faces" / "train").iterdir()) if one.is_dir()]
    lines = ["10\t300"]
    for folder in wanted[:6]:
        photos = sorted(folder.iterdir())[:3]
        for photo in photos:
            (faces / "test" / folder.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(photo, faces / "test" / folder.name)
        numbers = "\t".join(str(int(photo.stem[-4:])) for photo in photos[:2])
        lines.append(f"{folder.name}\t{numbers}")
        lines.append(f"{folder.name}\t{int(photos[0].stem[-4:])}\t{int(photos[2].stem[-4:])}")
    for folder in wanted[6:18]:
        (faces / "distractors" / folder.name).mkdir(parents=True)
        shutil.copy(sorted(folder.iterdir())[0], faces / "distractors" / folder.name)
    (faces / "meta").mkdir()
    (faces / "meta" / "lfw_pairs.txt").write_text("\n".join(lines))
    out = tmp_path / "page.md"
    arguments = ["judge", "--data", str(tmp_path / "data"), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", arguments)

    judge_recognizers.main()

    text = out.read_text()
    assert "| `face-residual-112` |" in text
    assert "6 people of `faces/test`" in text
    assert "with 12 further people" in text
    assert "nan" not in text
