"""Training steps of this library as a share of a bare PyTorch loop, and where their time goes.

``python -m benchmarks.training [--rounds 5] [--device cpu] [--threads 1]``

The bare loop has what training cannot do without: forward pass, loss, backward pass, gradient
clipping, and PyTorch's optimizer as it comes, on one ready batch in the memory layout that
convolutions like. This library also draws the batch from bytes, augments it (or not, to compare),
sets the learning rate and counts right answers; validation, which both would need, is in neither.
Candidates take turns in each round. Units are steps.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional

from benchmarks._timing import share, take_turns
from services.worker.datasets.labeled import LabeledImages
from services.worker.models.architectures import build
from services.worker.models.base import Classifier
from services.worker.training.config import TrainConfig
from services.worker.training.loop import train
from services.worker.training.presets import NO_AUGMENTATION

CASES = (("cnn", 32, 64), ("resnet34", 32, 64), ("mobilenet_v3_small", 112, 48))
STEPS = 6
BARE = "bare loop"
CLASSES = ("with_mask", "without_mask")


def fresh(architecture: str, size: int, device: torch.device) -> Classifier:
    """Return the model that every candidate trains, each its own."""
    torch.manual_seed(0)
    model = build(architecture, classes=CLASSES, input_size=size)
    return model.to(device).to(memory_format=torch.channels_last)


def bare_loop(model: Classifier, data: LabeledImages, batch: int) -> Callable[[], int]:
    """Return the loop that anybody would write."""
    device = next(model.parameters()).device
    images = (data.images[:batch].to(device).float() / 255).contiguous(
        memory_format=torch.channels_last
    )
    labels = data.labels[:batch].to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.02)

    def work() -> int:
        model.train()
        for _ in range(STEPS):
            loss = functional.cross_entropy(model(images), labels, label_smoothing=0.05)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return STEPS

    return work


def main() -> None:
    """Print one table a network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    device = torch.device(chosen.device)
    for architecture, size, batch in CASES:
        built = (fresh(architecture, size, device) for _ in range(3))
        count = STEPS * batch
        pixels = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8)
        groups = tuple(map(str, range(count)))
        data = LabeledImages(pixels, torch.arange(count) % 2, CLASSES, groups)
        reading: dict[str, list[float]] = {}

        def bauta(
            name: str,
            model: Classifier,
            config: TrainConfig,
            data: LabeledImages = data,
            reading: dict[str, list[float]] = reading,
        ) -> Callable[[], int]:
            def work() -> int:
                done = train(model, data, data.select([0, 1]), config, device=device)
                reading.setdefault(name, []).append(done.data_seconds / done.seconds)
                return STEPS

            return work

        config = TrainConfig(epochs=1, batch_size=batch)
        plain = replace(config, augmentation=NO_AUGMENTATION)
        candidates = {
            BARE: bare_loop(next(built), data, batch),
            "bauta, plain": bauta("bauta, plain", next(built), plain),
            "bauta, augmented": bauta(
                "bauta, augmented", fresh(architecture, size, device), config
            ),
        }
        rates = take_turns(candidates, chosen.rounds)
        print(f"{architecture}, {size} px, batches of {batch}: steps a second, share of {BARE}")
        for name, rate in rates.items():
            line = f"{name:18} {sorted(rate)[len(rate) // 2]:7.2f}/s {share(rates, name, BARE)}"
            if name in reading:
                line += f", {sum(reading[name]) / len(reading[name]):.1%} of it reading data"
            print(line, flush=True)


if __name__ == "__main__":
    main()
