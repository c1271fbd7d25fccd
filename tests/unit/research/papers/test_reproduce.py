"""Reproduction on generated pictures: lines, resuming, and a page that makes nothing up."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from research.papers.pixels import run as running
from research.papers.pixels.page import Found, page
from research.papers.pixels.protected import around_face, protections
from research.papers.pixels.rows import CNN, PAPER_EPS, RESNET_ID, Line, all_lines
from research.papers.pixels.run import Workshop, keep_rows, load_row, run_lines
from research.papers.pixels.stored_rows import Kept
from research.train.classifiers import BINARY
from services.worker.attacks.fgsm import FGSM
from services.worker.defenses.carving import SeamCarving


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    random = np.random.default_rng(0)
    for label in BINARY:
        folder = tmp_path / "data" / "mask_classification" / "test" / label
        folder.mkdir(parents=True)
        for number in range(12):
            picture = random.integers(0, 255, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(picture).save(folder / f"{number}.png")
    return Workshop(tmp_path / "data", tmp_path / "cache", False, lambda line: None)


def lines() -> list[Line]:
    first = Line(
        id="table2-cnn-k1-shrunk",
        group="table2",
        title="1 px",
        model=CNN,
        attack=FGSM(eps=8),
        side=64,
        images=20,
    )
    through = replace(first, id="table2-cnn-k1-through", defended=True, transfer_of=first.id)
    return [first, through]


def test_every_line_has_its_own_name_and_the_papers_figures() -> None:
    found = all_lines(quick=False)
    assert len({line.id for line in found}) == len(found)
    papers = {line.id: line.paper for line in found}
    assert papers["table1-cnn-k5"] == "11 %"
    assert papers["table2-resnet34-k5-carved"] == "1 %"
    assert papers[f"figures-pgd-{PAPER_EPS:g}"].startswith("81 %")
    assert all(line.images >= 200 for line in found)
    for line in found:
        assert line.transfer_of is None or line.transfer_of in papers


def test_goes_on_where_it_was(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    run_lines(lines(), shop, seconds=600)
    rows = [load_row(line, shop) for line in lines()]
    assert rows[0] is not None
    assert rows[1] is not None
    bare, carved = rows[0][0], rows[1][0]
    assert bare.indices == carved.indices
    assert len(bare.indices) == 20
    assert carved.transferred is not None
    assert bare.transferred is None

    def never(*_: object, **__: object) -> None:
        raise AssertionError("this was done before")

    monkeypatch.setattr(running, "attack_images", never)
    run_lines(lines(), shop, seconds=600)
    changed = [replace(line, attack=FGSM(eps=4)) for line in lines()]
    with pytest.raises(AssertionError, match="done before"):
        run_lines(changed, shop, seconds=600)


def test_another_machine_goes_on_from_the_numbers(
    shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FGSM, "uses_gradients", False)  # as if it took hours
    shop.kept = Kept(tmp_path / "rows")
    first, through = (replace(line, images=10) for line in lines())
    run_lines([first, through], shop, seconds=600)
    keep_rows([first, through], shop)
    assert not any("adversarial" in file.read_text() for file in (tmp_path / "rows").iterdir())
    here = [load_row(line, shop) for line in (first, through)]

    other = replace(shop, cache=tmp_path / "elsewhere", missing={}, _models={}, _pictures={})
    asked: list[int] = []
    real = running.attack_images

    def counted(*given: Any, **how: Any) -> Any:
        asked.append(len(given[2]))
        return real(*given, **how)

    monkeypatch.setattr(running, "attack_images", counted)
    run_lines([first, through], other, seconds=600)
    assert asked == []
    for line, row in zip((first, through), here, strict=True):
        again = load_row(line, other)
        assert row is not None
        assert again is not None
        for mine, theirs in zip(row[0].adaptive.results, again[0].adaptive.results, strict=True):
            black = mine.adversarial
            assert replace(theirs, adversarial=black) == mine
        assert np.array_equal(row[0].clean, again[0].clean)

    # The next pictures: those attacked without the defense are needed here again.
    longer = replace(through, images=20)
    (tmp_path / "rows" / f"{through.id}.json").unlink()
    run_lines([longer], other, seconds=600)
    assert asked == [10, 10, 10, 10]
    found = load_row(longer, other)
    assert found is not None
    assert len(found[0].indices) == 20


def test_numbers_of_other_weights_are_not_taken(shop: Workshop, tmp_path: Path) -> None:
    kept = Kept(tmp_path / "rows")
    kept.keep("line", {"00000-a": ({"index": torch.tensor([1, 2])}, {"seconds": 1.5})})

    assert kept.chunk("line", "00000-b") is None
    assert kept.chunk("other", "00000-a") is None
    found = kept.chunk("line", "00000-a")
    assert found is not None
    assert found[0]["index"].tolist() == [1, 2]
    assert found[1] == {"seconds": 1.5}


def test_page_says_what_was_not_run(shop: Workshop) -> None:
    resnet = next(line for line in all_lines(quick=False) if line.model == RESNET_ID)
    run_lines([resnet], shop, seconds=600)
    assert "not been trained" in shop.missing[RESNET_ID]
    assert load_row(resnet, shop) is None
    text = page(all_lines(quick=False), {}, shop.missing, [])
    table = [line for line in text.splitlines() if line.startswith("| `")]
    assert len(table) == 24
    assert all("not run" in line for line in table)
    assert "px: not measured yet" in text


def test_page_shows_what_was_run(shop: Workshop) -> None:
    run_lines(lines(), shop, seconds=600)
    found = {line.id: Found(*done) for line in lines() if (done := load_row(line, shop))}
    text = page(lines(), found, {}, [])
    assert "1 px, 20 pictures" in text
    assert f"| {len(found[lines()[0].id].row.indices)} |" in text


def test_a_protected_face_stays_whole_where_the_margin_is_enough(shop: Workshop) -> None:
    """The face of a crop is 1 / 1.3 of it; half of the columns cannot come from the margin."""
    carving = around_face(32)
    assert carving.weights is not None
    kept = np.flatnonzero(carving.weights.any(0))
    assert (kept[0], kept[-1]) == (7, 56)
    faces = torch.rand(2, 3, 64, 64)
    gentle = SeamCarving(height=52, width=52, energy="entropy", weights=carving.weights)
    seams = gentle.carve(faces).seams
    assert (seams[:, 7:57, 7:57] == 0).all()
    assert (carving.carve(faces).seams[:, 7:57, 7:57] != 0).any()


def test_protection_is_judged_on_labeled_faces(shop: Workshop) -> None:
    assert protections(shop) == []
    folder = shop.data / "mask_detection" / "test"
    for name in ("images", "annotations"):
        (folder / name).mkdir(parents=True)
    random = np.random.default_rng(0)
    photo = random.integers(0, 255, (80, 120, 3), dtype=np.uint8)
    Image.fromarray(photo).save(folder / "images" / "a.jpg")
    boxes = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{x}</xmin><ymin>20</ymin><xmax>{x + 30}</xmax>"
        "<ymax>50</ymax></bndbox></object>"
        for name, x in (("with_mask", 10), ("without_mask", 60), ("mask_weared_incorrect", 80))
    )
    (folder / "annotations" / "a.xml").write_text(f"<annotation>{boxes}</annotation>")
    (found,) = protections(shop)
    assert found.model == CNN
    assert found.resized.total == found.carved.total == found.protected.total == 2
    text = page([], {}, {}, [], [found])
    assert "carved, face protected" in text
    assert "Not run: no labeled faces" in page([], {}, {}, [])
