"""Judges recognizers on people held out: ``python -m research.measure.recognizers``.

Verification of pairs and identification, on ``faces/test`` with the people of ``faces/distractors``
in the gallery. Nothing is chosen by what this prints.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.worker.datasets.identities import aligned_face, photos_of, read_photo
from services.worker.evaluation.identification import (
    accept_rate,
    leave_one_out,
    pair_accuracy,
    pair_scores,
    person_similarities,
    probe_sides,
    rank_rate,
    ranks,
    threshold_at,
)
from services.worker.evaluation.metrics import Rate
from services.worker.faces.detection import FaceDetector
from services.worker.models.recognizers import TASK, Recognizer, recognizer_of
from services.worker.models.registry import find_models
from services.worker.training.embedding import as_images, embed

SEED = 13


@dataclass(frozen=True)
class Faces:
    """Aligned faces, uint8 ``(N, 160, 160, 3)``, with their people and their photos' names."""

    frames: NDArray[np.uint8]
    people: NDArray[np.int64]
    photos: tuple[str, ...]


@dataclass(frozen=True)
class Judged:
    """What one recognizer reached."""

    name: str
    pairs: Rate
    everyone: Rate  # rank-1, each photo against all others
    one_photo: Rate  # rank-1, one gallery photo a person
    among_strangers: Rate  # the same with the distractors in the gallery
    accepted: Rate  # TAR at FAR 1 %, probes against that gallery


def read_faces(root: Path, detector: FaceDetector) -> Faces:
    """Align the main face of every photo of ``<root>/<person>/*``."""
    frames, names, photos = [], [], []
    for name, path in photos_of(root):
        frame = aligned_face(read_photo(path), detector.detect)
        if frame is not None:
            frames.append(frame)
            names.append(name)
            photos.append(path.stem)
    known = {name: number for number, name in enumerate(sorted(set(names)))}
    people = np.array([known[name] for name in names], dtype=np.int64)
    return Faces(np.stack(frames), people, tuple(photos))


def read_pairs(path: Path, photos: Sequence[str]) -> NDArray[np.int64]:
    """Return LFW's official pairs of one person of whom both photos are there, ``(N, 2)``.

    Of its pairs of two people hardly any lie within ``faces/test``: those are drawn.
    """
    place = {name: number for number, name in enumerate(photos)}
    pairs = []
    for line in path.read_text(encoding="utf-8").splitlines()[1:]:
        parts = line.split()
        if len(parts) != 3:
            continue
        both = [f"{parts[0]}_{int(number):04d}" for number in parts[1:]]
        if all(name in place for name in both):
            pairs.append([place[name] for name in both])
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def draw_different(people: NDArray[np.integer], count: int, *, seed: int) -> NDArray[np.int64]:
    """Draw pairs ``(count, 2)`` of photos of two people."""
    rng = np.random.default_rng(seed)
    pairs: list[tuple[int, int]] = []
    while len(pairs) < count:
        first, second = (int(one) for one in rng.integers(0, len(people), 2))
        if people[first] != people[second]:
            pairs.append((first, second))
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def judge(recognizer: Recognizer, faces: Faces, same: NDArray[np.int64], others: Faces) -> Judged:
    """Ask one recognizer for everything. ``same`` are pairs of one person."""
    mine = embed(recognizer, as_images(faces.frames)).numpy()
    strangers = embed(recognizer, as_images(others.frames)).numpy()
    different = draw_different(faces.people, len(same), seed=SEED)
    # Alternately of one person and of two, so that every fold has as many of both.
    pairs = np.stack([same, different], 1).reshape(-1, 2)
    truth = np.tile([True, False], len(same))
    sides = probe_sides(faces.people)
    probes, who = mine[sides.probes], faces.people[sides.probes]
    gallery, known = mine[sides.gallery], faces.people[sides.gallery]
    crowd = np.concatenate([gallery, strangers])
    named = np.concatenate([known, int(known.max()) + 1 + np.arange(len(strangers))])
    scores = pair_scores(probes, who, crowd, named)
    return Judged(
        recognizer.identifier,
        pair_accuracy(mine[pairs[:, 0]], mine[pairs[:, 1]], truth),
        rank_rate(leave_one_out(mine, faces.people), 1),
        _rank_1(probes, who, gallery, known),
        _rank_1(probes, who, crowd, named),
        accept_rate(scores.genuine, threshold_at(scores.impostor, 0.01)),
    )


def _rank_1(
    probes: NDArray[np.float32],
    who: NDArray[np.integer],
    gallery: NDArray[np.float32],
    known: NDArray[np.integer],
) -> Rate:
    similar, names = person_similarities(probes, gallery, known)
    return rank_rate(ranks(similar, names, who), 1)


def page(judged: Sequence[Judged], faces: Faces, pairs: int, others: int, command: str) -> str:
    """Write the table as Markdown."""
    rows = [
        "# Recognizers on people whom they never saw\n",
        f"Written by `{command}`; nothing was filled in by hand.\n",
        f"{len(set(faces.people.tolist()))} people of `faces/test`, {len(faces.people)} photos. "
        f"*Pairs*: LFW's {pairs} official pairs of one person that lie in this folder, and as many "
        "of two people, drawn (LFW's own of two people span folders), judged by its ten-fold "
        "protocol. *All photos*: rank-1 of each photo against all others; *one photo*: against "
        f"one a person; *among strangers*: with {others} further people (`faces/distractors`) in "
        "that gallery, and the true accepts there at one false accept in 100. Brackets: 95 % "
        "Wilson intervals.\n",
        "| recognizer | pairs | all photos | one photo | among strangers | TAR at FAR 1 % |",
        "|---|---|---|---|---|---|",
    ]
    for one in judged:
        rates = (one.pairs, one.everyone, one.one_photo, one.among_strangers, one.accepted)
        rows.append(f"| `{one.name}` | {' | '.join(_percent(rate) for rate in rates)} |")
    rows.append(
        "\nTwo are strong and come from others, of two lineages: `dlib-resnet-v1` and "
        "`mobilefacenet_ms1m`. Two are small and this project's own: `face-student-112` learned "
        "from `mobilefacenet_ms1m`, `face-residual-112` from labels alone, so that it judges the "
        "other three. Teachers and people are in their cards (`GET /v1/models/{id}`).\n"
    )
    return "\n".join(rows)


def _percent(rate: Rate) -> str:
    return f"{rate.value:.1%} [{100 * rate.low:.1f}, {100 * rate.high:.1f}]"


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, help="default: print the page")
    arguments = parser.parse_args()
    root = arguments.data / "faces"
    detector = FaceDetector()
    faces = read_faces(root / "test", detector)
    others = read_faces(root / "distractors", detector)
    same = read_pairs(root / "meta" / "lfw_pairs.txt", faces.photos)
    found = [recognizer_of(*one) for one in find_models().values() if one[0].task == TASK]
    judged = [judge(one, faces, same, others) for one in found]
    command = "python -m research.measure.recognizers"
    text = page(
        judged, faces, len(same), len(others.people), f"{command} --out docs/results/recognizers.md"
    )
    if arguments.out is None:
        print(text)
        return
    arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
