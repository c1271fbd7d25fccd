"""Converts the recognizers of others that ship.

``python -m research.train.third_party_recognizers``

dlib's network (CC0) from its own file, and MobileFaceNet of MS-Celeb-1M (Apache-2.0). The weights
are theirs, stored as float16; what is measured here, on people of ``faces/train``, are the
thresholds and the statistics of embeddings. Nothing is trained.
"""

import argparse
import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from research.train.recognizers import load_people
from services.worker.datasets.identities import Identities
from services.worker.models.dlib_network import read_dlib
from services.worker.models.operator_import import tensors_of
from services.worker.models.recognizers import TASK, build_recognizer, frozen
from services.worker.models.registry import BUNDLED, write_weights
from services.worker.training.recognizer_import import measure, settle
from shared.model_card import ModelCard


@dataclass(frozen=True)
class Source:
    """A third party's file: what it holds, whom it learned from, on what terms it may ship."""

    file: str
    sha256: str
    architecture: str
    people: tuple[str, ...]
    license: str
    origin: str


PHOTOS = 2  # of each person
SOURCES = {
    "dlib-resnet-v1": Source(
        file="dlib_face_recognition_resnet_model_v1.dat",
        sha256="55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
        architecture="dlib_resnet",
        people=("FaceScrub", "VGG Face", "dlib's scraped faces"),
        license="CC0-1.0; see LICENSE-WEIGHTS.md",
        origin="Davis King's dlib models: about 3 million faces of 7,485 people",
    ),
    "mobilefacenet_ms1m": Source(
        file="mobilefacenet_ms1m.pt",
        sha256="90a00ba1d8b0b688af3deb731ed53dca582e6106805d1bc3cfdef55f570493f4",
        architecture="mobilefacenet",
        people=("MS-Celeb-1M",),
        license="Apache-2.0; see LICENSE-WEIGHTS.md",
        origin="MobileFaceNet (Chen et al. 2018), a published PyTorch checkpoint",
    ),
}


def first_photos(people: Identities) -> Identities:
    """Return two photos each of every second person: enough for thresholds."""
    some = people.of(range(0, len(people.names), 2))
    seen = np.zeros(len(some.names), dtype=int)
    kept = []
    for index, person in enumerate(some.people):
        if seen[person] < PHOTOS:
            kept.append(index)
        seen[person] += 1
    return Identities(some.frames[kept], some.people[kept], some.names)


def convert(name: str, folder: Path, people: Identities, out: Path) -> ModelCard:
    """Write ``<out>/<name>/`` from the third party's file in a folder; returns the card.

    Raises ``ValueError`` for a file that is not the one expected.
    """
    source = SOURCES[name]
    data = (folder / source.file).read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != source.sha256:
        raise ValueError(f"{source.file} has SHA-256 {found}, not {source.sha256}")
    state = read_dlib(data) if source.file.endswith(".dat") else tensors_of(data, source.file)
    recognizer = build_recognizer(source.architecture, identifier=name)
    # As it will be read: the figures are those of the rounded weights.
    recognizer.network.load_state_dict(
        {key: t.half().float() if t.is_floating_point() else t for key, t in state.items()}
    )
    frozen(recognizer)
    settle(recognizer, people)
    metrics = measure(recognizer, people) | {
        "measured_on": f"pairs of {len(people)} photos of {len(people.names)} people of "
        "faces/train, some of whom may be among those that it was trained on"
    }
    return write_weights(
        recognizer,
        out,
        half=True,
        id=name,
        task=TASK,
        architecture=source.architecture,
        classes=(),
        input_size=recognizer.input_size,
        crop_margin=0.0,
        license=source.license,
        lineage=(),
        training_data={
            "sources": [source.origin],
            "people_groups": list(source.people),
            "file": source.file,
            "file_sha256": source.sha256,
            "statistics": "faces/train: thresholds, mean and covariance of embeddings",
        },
        training={"script": "python -m research.train.third_party_recognizers", "dtype": "float16"},
        metrics=metrics,
    )


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--weights", type=Path, default=Path("../shared/weights"))
    parser.add_argument("--out", type=Path, default=BUNDLED)
    parser.add_argument("--cache", type=Path, help="folder for aligned faces, to run again sooner")
    arguments = parser.parse_args()
    people = first_photos(load_people(arguments.data / "faces" / "train", arguments.cache))
    for name in SOURCES:
        card = convert(name, arguments.weights, people, arguments.out)
        print(f"{card.id}: {card.size / 2**20:.1f} MiB, {card.metrics}", file=sys.stderr)


if __name__ == "__main__":
    main()
