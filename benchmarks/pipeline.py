"""The work itself, without any service: decode, find faces, cut, classify."""

import multiprocessing
import time
from multiprocessing.synchronize import Barrier

import torch

from services.worker.faces.crops import crop_faces
from services.worker.faces.detection import FaceDetector
from services.worker.models.registry import default_model, find_models, load_model
from services.worker.runtime.memory import keep_freed_memory
from shared.images import decode_rgb


class Pipeline:
    """The default face finder and classifier on one thread."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        keep_freed_memory()  # as Bauta's workers do: every side has the same allocator
        card = default_model("mask")
        self.loaded = load_model(card, find_models()[card.id][1])
        self.detector = FaceDetector()
        self.size = self.loaded.classifier.input_size[0]

    def classify(self, images: list[bytes]) -> list[list[list[float]]]:
        """Return class probabilities of each face of each photo."""
        photos = [decode_rgb(image) for image in images]
        margin = self.loaded.card.crop_margin
        cut = [
            crop_faces(photo, [face.box for face in found.faces], size=self.size, margin=margin)
            for photo, found in zip(photos, self.detector.search_all(photos), strict=True)
        ]
        with torch.inference_mode():
            faces = torch.cat(cut).contiguous(memory_format=torch.channels_last)
            rows = self.loaded.classifier(faces).softmax(1) if len(faces) else faces.new_empty(0, 2)
        return [part.tolist() for part in rows.split([len(part) for part in cut])]


def _work(
    images: list[bytes], batch: int, start: Barrier, seconds: "multiprocessing.Queue[float]"
) -> None:
    pipeline = Pipeline()
    pipeline.classify(images[:batch])
    start.wait()
    began = time.perf_counter()
    for first in range(0, len(images), batch):
        pipeline.classify(images[first : first + batch])
    seconds.put(time.perf_counter() - began)


def direct_in_processes(images: list[bytes], *, processes: int, batch: int = 8) -> float:
    """Return photos a second when the photos are divided among processes."""
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(processes)
    seconds: multiprocessing.Queue[float] = context.Queue()
    workers = [
        context.Process(target=_work, args=(images[n::processes], batch, start, seconds))
        for n in range(processes)
    ]
    for worker in workers:
        worker.start()
    slowest = max(seconds.get(timeout=300) for _ in workers)
    for worker in workers:
        worker.join()
    return len(images) / slowest
