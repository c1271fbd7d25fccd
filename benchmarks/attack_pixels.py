"""Model queries a second of the few-pixel attacks, as shares of the bare forward pass.

``python -m benchmarks.attack_pixels [--rounds 5] [--images 8] [--device cpu]``

Every candidate takes turns in each round, on one thread. The limit is the network alone, at the
best of three batch sizes, on ready images in its favorite layout. Queries are counted where they
arrive, in the network; population 100, no early stop. The peers get the network as it comes from
torchvision (weights that ask for gradients, channels first), and prepared as this project's loader
does it (frozen, channels last). The models have fresh weights: their speed is the same. Three
classes, since ART's attack refuses two.
"""

import argparse
import warnings
from collections.abc import Callable
from functools import partial
from statistics import median

import numpy as np
import torch
from torch import Tensor

from benchmarks._peers import as_it_comes
from benchmarks._timing import Rates, beside, take_turns
from services.worker.attacks.criteria import Untargeted
from services.worker.attacks.de import DifferentialEvolution
from services.worker.attacks.oracle import Oracle
from services.worker.attacks.runner import run
from services.worker.models.architectures import build
from services.worker.models.base import Classifier
from services.worker.models.optimized.frozen import has_fast_bf16
from services.worker.runtime.memory import keep_freed_memory

CLASSES = ("with_mask", "without_mask", "mask_weared_incorrect")
SIDE = 32
POPULATION = 100
LIMIT = "forward pass"
LIMIT_BATCHES = (64, 128, 256)  # on a GPU eight times as many


class Counter:
    """Counts the images that reach a network."""

    def __init__(self, model: Classifier) -> None:
        self.images = 0
        model.network.register_forward_pre_hook(self._count)

    def _count(self, network: object, given: tuple[Tensor, ...]) -> None:
        del network
        self.images += len(given[0])

    def __deepcopy__(self, memo: object) -> "Counter":
        return self  # a folded copy of the model counts here, too

    def during(self, work: Callable[[], object]) -> int:
        before = self.images
        work()
        return self.images - before


def forward(model: Classifier, images: Tensor) -> int:
    """The limit: the model on a ready batch."""
    turns = max(1, 1024 // len(images))
    with torch.inference_mode():
        for _ in range(turns):
            model(images)
    return turns * len(images)


def art_attack(model: Classifier, pixels: int, images: Tensor, labels: Tensor) -> object:
    """Attack with ART, whose population is 400."""
    from art.attacks.evasion import PixelAttack
    from art.estimators.classification import PyTorchClassifier

    wrapped = PyTorchClassifier(
        model,
        loss=torch.nn.CrossEntropyLoss(),
        input_shape=(3, SIDE, SIDE),
        nb_classes=len(CLASSES),
        clip_values=(0, 255),
        preprocessing=(0, 255),
        device_type="gpu" if next(model.parameters()).is_cuda else "cpu",
    )
    attack = PixelAttack(wrapped, th=pixels, es=1, max_iter=1, verbose=False)
    return attack.generate(images.numpy().astype(np.float32), labels.numpy())


def candidates(
    model: Classifier, pixels: int, images: Tensor, device: torch.device
) -> dict[str, Callable[[], int]]:
    """Return the limit, this library in its variants, and the peers."""
    import torchattacks

    counter = Counter(model)
    floats = images.to(device).float() / 255
    labels = model(floats).argmax(1)
    batch = Oracle(model, floats[:2]).batch
    times = 1 if device.type == "cpu" else 8
    ready = torch.rand(times * max(LIMIT_BATCHES), 3, SIDE, SIDE, device=device)
    ready = ready.contiguous(memory_format=torch.channels_last)

    def evolve(*, fold: bool, bf16: bool = False) -> int:
        attack = DifferentialEvolution(
            pixels=pixels,
            population=POPULATION,
            generations=3,
            early_stop=False,
            fold=fold,
            search_bf16=bf16,
        )
        return counter.during(lambda: run(attack, model, images, Untargeted(labels)))

    def torchattacks_of(model: Classifier) -> int:
        attack = torchattacks.OnePixel(
            model, pixels=pixels, steps=3, popsize=POPULATION, inf_batch=batch
        )
        return counter.during(lambda: attack(floats[:3], labels[:3]))

    def art_of(model: Classifier) -> int:
        return counter.during(lambda: art_attack(model, pixels, images[:1], labels[:1].cpu()))

    plain = as_it_comes(model)
    return {
        **{
            f"{LIMIT}, batch {size}": partial(forward, model, ready[: times * size])
            for size in LIMIT_BATCHES
        },
        "bauta, not folded": partial(evolve, fold=False),
        "bauta": partial(evolve, fold=True),
        **({"bauta, bf16": partial(evolve, fold=True, bf16=True)} if has_fast_bf16(device) else {}),
        "torchattacks": partial(torchattacks_of, plain),
        "ART": partial(art_of, plain),
        "torchattacks, prepared": partial(torchattacks_of, model),
        "ART, prepared": partial(art_of, model),
    }


def with_limit(rates: Rates) -> Rates:
    """Add the limit: the forward pass at the batch size whose median is best."""
    best = max((name for name in rates if name.startswith(LIMIT)), key=lambda n: median(rates[n]))
    return {LIMIT: rates[best], **rates}


def main() -> None:
    """Print one line a model, k and candidate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--models", nargs="+", default=["cnn", "resnet34_7x7"])
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    keep_freed_memory()  # as Bauta's workers do: every side has the same allocator
    device = torch.device(chosen.device)
    images = torch.randint(0, 256, (chosen.images, 3, SIDE, SIDE), dtype=torch.uint8)
    print(f"queries a second as a share of the {LIMIT}: median [quartiles]")
    for name in chosen.models:
        for pixels in (1, 3, 5):
            model = build(name, classes=CLASSES, input_size=SIDE).eval().requires_grad_(False)
            model = model.to(device).to(memory_format=torch.channels_last)
            rates = with_limit(take_turns(candidates(model, pixels, images, device), chosen.rounds))
            for candidate in rates:
                said = beside(rates, candidate, limit=LIMIT)
                print(f"{name:12} k={pixels} {candidate:23} {said}", flush=True)


if __name__ == "__main__":
    main()
