"""Boxes faces of portraits where two detectors agree: ``python -m research.train.face_boxes``.

The bundled face finder proposes, MTCNN's last network inspects. A place that only one of them
takes for a face is neither one nor background: no example learns from it.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from research.train.face_pictures import NO_BOXES, Boxes, FacePhoto
from services.worker.datasets.labeled import read_rgb
from services.worker.faces.crops import Pixels
from services.worker.faces.detection import load_finder
from services.worker.faces.finder import find_faces
from services.worker.faces.mtcnn import Mtcnn

PROPOSED, INSPECTED = 0.4, 0.8
MASKED_INSPECTED = 0.3  # MTCNN never learned masks
CANDIDATE, DOUBTFUL = 0.1, 0.35
AT_ONCE = 500


def boxed(name: str, rows: Boxes, pixels: Pixels) -> FacePhoto | None:
    """Return a portrait with its main face first; ``None`` where the detectors do not agree on it.

    ``rows`` are ``(N, 17)``: number of the photo, box, five points, scores of finder and MTCNN.
    """
    masked = "with_mask" in name.split("/")
    proposed, inspected = rows[:, 15], rows[:, 16]
    sure = (proposed >= PROPOSED) & (inspected >= (MASKED_INSPECTED if masked else INSPECTED))
    middle = (rows[:, 1:3] + rows[:, 3:5]) / 2
    height, width = pixels.shape[:2]
    away = np.abs(middle - [width / 2, height / 2]).max(1) / max(height, width)
    central = sure & (away < 0.2)
    if not central.any():
        return None
    areas = (rows[:, 3] - rows[:, 1]) * (rows[:, 4] - rows[:, 2])
    first = int(np.argmax(np.where(central, areas, -1)))
    order = [first] + [int(i) for i in np.flatnonzero(sure) if i != first]
    # Inside the main face nothing is in doubt: parts of a face are none.
    inside = (np.abs(middle - middle[first]) < (rows[first, 3:5] - rows[first, 1:3]) / 2).all(1)
    unsure = (proposed >= DOUBTFUL) | ((inspected >= INSPECTED) & (proposed >= 0.15))
    doubtful = [int(i) for i in np.flatnonzero(unsure & ~inside) if i not in order]
    return FacePhoto(
        name,
        pixels,
        rows[order, 1:5].astype(np.float32),
        rows[order, 5:15].reshape(-1, 5, 2).astype(np.float32),
        rows[doubtful, 1:5].astype(np.float32) if doubtful else NO_BOXES,
    )


def load_boxed(root: Path) -> tuple[list[FacePhoto], list[FacePhoto]]:
    """Load what ``write_boxes`` wrote: bare portraits, and those in masks."""
    bare: list[FacePhoto] = []
    worn: list[FacePhoto] = []
    for path in sorted(root.glob("*.npz")):
        with np.load(path) as stored:
            rows, names, shapes = stored["rows"], stored["names"], stored["shapes"]
            pixels = stored["pixels"]
        start = 0
        for number, (name, (height, width)) in enumerate(zip(names, shapes, strict=True)):
            end = start + int(height) * int(width) * 3
            own = rows[rows[:, 0] == number]
            photo = boxed(str(name), own, pixels[start:end].reshape(height, width, 3))
            start = end
            if photo is not None:
                (worn if "/with_mask/" in str(name) else bare).append(photo)
    return bare, worn


def write_boxes(data: Path, paths: list[Path], out: Path) -> None:
    """Write the photos at ``paths`` with all candidates as both detectors see them."""
    network, mtcnn = load_finder(), Mtcnn()
    kept, rows = [], []
    for number, path in enumerate(paths):
        pixels = read_rgb(path)
        found = find_faces(network, pixels, threshold=CANDIDATE)
        points, inspected = mtcnn.inspect(pixels, found.boxes)
        kept.append(pixels)
        for i, box in enumerate(found.boxes):
            rows.append([number, *box, *points[i].ravel(), found.scores[i], inspected[i]])
    part = out.with_suffix(".part.npz")
    np.savez(
        part,
        rows=np.array(rows, dtype=np.float32).reshape(-1, 17),
        shapes=np.array([photo.shape[:2] for photo in kept]),
        pixels=np.concatenate([photo.ravel() for photo in kept]),
        names=np.array([str(path.relative_to(data)) for path in paths]),
    )
    part.replace(out)


def main() -> None:
    """Run from the command line; files that are there already are kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    folders = {
        "lfw": arguments.data / "faces" / "train",
        "worn": arguments.data / "mask_classification" / "train" / "with_mask",
        "bare": arguments.data / "mask_classification" / "train" / "without_mask",
    }
    for name, folder in folders.items():
        paths = sorted(folder.rglob("*.jpg"))
        for start in range(0, len(paths), AT_ONCE):
            out = arguments.out / f"{name}-{start:05d}.npz"
            if not out.exists():
                write_boxes(arguments.data, paths[start : start + AT_ONCE], out)
                print(out.name, file=sys.stderr)


if __name__ == "__main__":
    main()
