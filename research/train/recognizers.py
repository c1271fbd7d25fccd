"""Trains the recognizers that ship: ``python -m research.train.recognizers``.

Two that are held out from each other: one learns from labels alone, from people with four photos
or more; the other is the student of a third-party recognizer, which the operator names, and sees
other people. Only ``train`` folders are read; the figures on ``faces/test`` come from
``research.measure.recognizers``.
"""

import argparse
import hashlib
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from research.train.classifiers import LICENSE
from services.worker.datasets.identities import Identities, aligned_people
from services.worker.faces.detection import FaceDetector
from services.worker.models.recognizers import (
    TASK,
    Recognizer,
    build_recognizer,
    load_checkpoint,
)
from services.worker.models.registry import BUNDLED, write_weights
from services.worker.training.embedding import (
    EmbeddingConfig,
    as_images,
    embed,
    imitate,
    learn_people,
)
from services.worker.training.presets import bf16_helps
from services.worker.training.recognizer_import import measure

LABELED, STUDENT = "face-residual-112", "face-student-112"
FEWEST_PHOTOS = 4  # of a person, to learn from labels
SAME_PERSON = 0.42  # similarity to the teacher, over which the student's unlabeled face is dropped
BLENDS = 9000  # of two photos each: faces of people who do not exist, for the teacher to embed
TEACHER_GROUPS = ("MS-Celeb-1M",)  # the people whom the teacher learned from

Say = Callable[[str], None]


def load_people(root: Path, cache: Path | None) -> Identities:
    """Align the faces of a folder of people, or read what an earlier run aligned."""
    kept = None if cache is None else cache / f"{root.parent.name}-{root.name}.npz"
    if kept is not None and kept.is_file():
        with np.load(kept) as stored:
            names = tuple(str(name) for name in stored["names"])
            return Identities(stored["frames"], stored["people"], names)
    found = aligned_people(root, FaceDetector().detect)
    if kept is not None:
        np.savez(kept, frames=found.frames, people=found.people, names=np.array(found.names))
    return found


def make_labeled(people: Identities, out: Path, config: EmbeddingConfig, say: Say) -> Recognizer:
    """Train the recognizer that learns from labels alone; write it and its card."""
    counts = people.counts
    learned = people.of(np.flatnonzero(counts >= FEWEST_PHOTOS))
    others = people.of(np.flatnonzero(counts < FEWEST_PHOTOS))
    say(f"{LABELED}: {len(learned)} photos of {len(learned.names)} people")
    torch.manual_seed(config.seed)
    recognizer = build_recognizer("residual_embedder", identifier=LABELED)
    began = time.monotonic()
    learn_people(
        recognizer, learned.frames, learned.people, config, progress=_progress(say, LABELED)
    )
    _write(
        recognizer,
        out,
        config,
        others,
        seconds=time.monotonic() - began,
        data={
            "sources": [f"faces/train, people with {FEWEST_PHOTOS} photos or more"],
            "people_groups": [f"faces/train with {FEWEST_PHOTOS} photos or more"],
            "people": len(learned.names),
            "photos": len(learned),
            "fingerprint": _fingerprint(learned.frames),
        },
        lineage=(),
        say=say,
    )
    return recognizer


def make_student(
    people: Identities,
    unlabeled: Identities,
    teacher: Recognizer,
    out: Path,
    config: EmbeddingConfig,
    say: Say,
) -> Recognizer:
    """Train the student on people whom the labeled one never saw; write it and its card."""
    counts = people.counts
    others = people.of(np.flatnonzero(counts >= FEWEST_PHOTOS))
    few = people.of(np.flatnonzero(counts < FEWEST_PHOTOS))
    kept = _strangers(teacher, unlabeled, others)
    photos = np.concatenate([few.frames, unlabeled.frames[kept]])
    say(f"{STUDENT}: {len(few)} + {int(kept.sum())} of {len(unlabeled)} photos")
    frames = np.concatenate([photos, blends(photos, BLENDS, seed=config.seed)])
    torch.manual_seed(config.seed)
    recognizer = build_recognizer("pooled_embedder", identifier=STUDENT)
    began = time.monotonic()
    imitate(recognizer, teacher, frames, config, progress=_progress(say, STUDENT))
    _write(
        recognizer,
        out,
        config,
        others,
        seconds=time.monotonic() - began,
        data={
            "sources": [
                f"faces/train, people with fewer than {FEWEST_PHOTOS} photos (no labels used)",
                "mask_classification/train (no labels used)",
            ],
            "people_groups": [
                f"faces/train with fewer than {FEWEST_PHOTOS} photos",
                "mask_classification/train",
                *TEACHER_GROUPS,
            ],
            "people": len(few.names),
            "photos": len(photos),
            "blends": BLENDS,
            "dropped": int((~kept).sum()),
            "fingerprint": _fingerprint(photos),
        },
        lineage=(teacher.identifier,),
        say=say,
    )
    return recognizer


def blends(
    frames: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]", count: int, *, seed: int
) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    """Mix pairs of aligned faces, a third to two thirds of each; uint8 ``(count, S, S, 3)``."""
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, len(frames), (2, count))
    shares = rng.uniform(1 / 3, 2 / 3, count)
    mixed = np.empty((count, *frames.shape[1:]), dtype=np.uint8)
    for number in range(count):
        one, other = frames[first[number]], frames[second[number], :, :: rng.choice((-1, 1))]
        share = shares[number]
        mixed[number] = np.rint(share * one.astype(np.float32) + (1 - share) * other)
    return mixed


def _strangers(
    teacher: Recognizer, unlabeled: Identities, known: Identities
) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    """Tell which unlabeled faces show nobody that the other recognizer learns from."""
    theirs = embed(teacher, as_images(known.frames))
    mine = embed(teacher, as_images(unlabeled.frames))
    return np.asarray(((mine @ theirs.T).amax(1) < SAME_PERSON).numpy())


def _write(
    recognizer: Recognizer,
    out: Path,
    config: EmbeddingConfig,
    strangers: Identities,
    *,
    seconds: float,
    data: dict[str, object],
    lineage: tuple[str, ...],
    say: Say,
) -> None:
    """Write the weights, with figures measured on people of training that it never saw."""
    metrics = measure(recognizer, strangers)
    card = write_weights(
        recognizer,
        out,
        half=True,
        id=recognizer.identifier,
        task=TASK,
        architecture=recognizer.architecture,
        classes=(),
        input_size=recognizer.input_size,
        crop_margin=0.0,
        license=LICENSE,
        lineage=lineage,
        training_data=data,
        training={
            "script": "python -m research.train.recognizers",
            "config": asdict(config),
            "seconds": round(seconds),
            "torch": torch.__version__,
        },
        metrics=metrics,
    )
    say(f"  wrote {card.id}: {card.size / 2**20:.1f} MiB, {metrics}")


def _fingerprint(frames: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]") -> str:
    return hashlib.sha256(np.ascontiguousarray(frames).tobytes()).hexdigest()


def _progress(say: Say, name: str) -> Callable[[int, float, float], None]:
    return lambda epoch, loss, seconds: say(f"  {name} {epoch + 1}: {loss:.4f} ({seconds:.0f} s)")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=BUNDLED)
    parser.add_argument("--teacher", type=Path, help="checkpoint of a MobileFaceNet (.pt)")
    parser.add_argument("--cache", type=Path, help="folder for aligned faces, to run again sooner")
    parser.add_argument("--only", choices=(LABELED, STUDENT))
    parser.add_argument("--epochs", type=int, help="instead of the recipe's")
    arguments = parser.parse_args()

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    bf16 = bf16_helps("face_resnet", torch.device("cpu"))  # the network of both
    people = load_people(arguments.data / "faces" / "train", arguments.cache)
    if arguments.only != STUDENT:
        config = EmbeddingConfig(epochs=arguments.epochs or 60, bf16=bf16, seed=1)
        make_labeled(people, arguments.out, config, say)
    if arguments.only != LABELED:
        if arguments.teacher is None:
            parser.error("--teacher names the checkpoint that the student learns from")
        unlabeled = load_people(arguments.data / "mask_classification" / "train", arguments.cache)
        teacher = load_checkpoint(arguments.teacher, "mobilefacenet")
        config = EmbeddingConfig(
            epochs=arguments.epochs or 36, batch_size=48, bf16=bf16, weight_decay=0.01, seed=1
        )
        make_student(people, unlabeled, teacher, arguments.out, config, say)


if __name__ == "__main__":
    main()
