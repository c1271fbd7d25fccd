"""PGD-10 on MobileNetV3-small at 224 px as a share of bare forward and backward passes.

``python -m benchmarks.attack_gradients [--rounds 5] [--model NAME] [--side 224] [--device cpu]``

Every candidate takes turns in each round, on one thread, with 16 images, ten steps, a random start
and no early stop. The limit has the network as this project's loader prepares it: frozen, channels
last. The peers get it twice: as networks come from torchvision (weights that ask for gradients,
which foolbox and ART then compute, too; channels first), and as prepared here, images too. Units
are gradient steps; what this library also does (first look, check of the delivered images with the
unfolded model) is inside its time. Then how far equal attacks on equal images lower the margin,
with each image rounded to 8 bits.
"""

import argparse
import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks._peers import as_it_comes
from benchmarks._timing import beside, take_turns
from services.worker.attacks.criteria import Untargeted
from services.worker.attacks.pgd import PGD
from services.worker.attacks.runner import run
from services.worker.models.base import Classifier
from services.worker.models.optimized.frozen import has_fast_bf16
from services.worker.models.registry import find_models, load_model
from services.worker.runtime.memory import keep_freed_memory

MODEL = "mask3-mobilenetv3s-112"  # fresh weights would fade to logits and gradients of nothing
BATCH, STEPS, EPS, STEP = 16, 10, 4, 1
LIMIT = "forward + backward"
Outcome = dict[str, Tensor]


def candidates(
    model: Classifier, images: Tensor, outcome: Outcome, device: torch.device
) -> dict[str, Callable[[], int]]:
    """Return the limit, this library and the peers; each stores its images in ``outcome``."""
    floats = images.to(device).float() / 255
    labels = model(floats).argmax(1)
    ready = floats.contiguous(memory_format=torch.channels_last)

    def bare() -> int:
        for _ in range(STEPS):
            asked = ready.detach().requires_grad_()
            torch.autograd.grad(functional.cross_entropy(model(asked), labels), asked)
        return STEPS

    def bauta(name: str, *, fold: bool, bf16: bool = False) -> int:
        attack = PGD(
            eps=EPS, steps=STEPS, step_size=STEP, early_stop=False, fold=fold, search_bf16=bf16
        )
        results = run(attack, model, images, Untargeted(labels)).results
        pictures = np.stack([result.adversarial for result in results])
        outcome[name] = torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255
        return STEPS

    found: dict[str, Callable[[], int]] = {
        LIMIT: bare,
        "bauta, not folded": lambda: bauta("bauta, not folded", fold=False),
        "bauta": lambda: bauta("bauta", fold=True),
    }
    if has_fast_bf16(device):
        found["bauta, bfloat16"] = lambda: bauta("bauta, bfloat16", fold=True, bf16=True)
    return {
        **found,
        **peers(as_it_comes(model), floats, labels, outcome, suffix=""),
        **peers(model, ready, labels, outcome, suffix=", prepared"),
    }


def peers(
    model: Classifier, floats: Tensor, labels: Tensor, outcome: Outcome, *, suffix: str
) -> dict[str, Callable[[], int]]:
    """Return the peers' PGD on a network, under their names and a suffix."""
    import foolbox
    import torchattacks
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    device = floats.device

    def torchattacks_pgd() -> int:
        attack = torchattacks.PGD(model, eps=EPS / 255, alpha=STEP / 255, steps=STEPS)
        outcome[f"torchattacks{suffix}"] = attack(floats, labels)
        return STEPS

    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device=device)

    def foolbox_pgd() -> int:
        attack = foolbox.attacks.LinfPGD(abs_stepsize=STEP / 255, steps=STEPS)
        outcome[f"foolbox{suffix}"] = attack(wrapped, floats, labels, epsilons=EPS / 255)[1]
        return STEPS

    classifier = PyTorchClassifier(
        model,
        loss=torch.nn.CrossEntropyLoss(),
        input_shape=floats.shape[1:],
        nb_classes=len(model.classes),
        clip_values=(0, 1),
        device_type="gpu" if device.type == "cuda" else "cpu",
    )

    def art_pgd() -> int:
        attack = ProjectedGradientDescentPyTorch(
            classifier,
            eps=EPS / 255,
            eps_step=STEP / 255,
            max_iter=STEPS,
            num_random_init=1,
            batch_size=BATCH,
            verbose=False,
        )
        found = attack.generate(floats.cpu().numpy(), labels.cpu())
        outcome[f"ART{suffix}"] = torch.from_numpy(found)
        return STEPS

    return {
        f"torchattacks{suffix}": torchattacks_pgd,
        f"foolbox{suffix}": foolbox_pgd,
        f"ART{suffix}": art_pgd,
    }


def main() -> None:
    """Print one line a candidate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--device", default="cpu")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    keep_freed_memory()  # as Bauta's workers do: every side has the same allocator
    device = torch.device(chosen.device)
    card, folder = find_models()[chosen.model]
    model = load_model(card, folder, device=device).classifier
    images = torch.randint(0, 256, (BATCH, 3, chosen.side, chosen.side), dtype=torch.uint8)
    outcome: Outcome = {}
    rates = take_turns(candidates(model, images, outcome, device), chosen.rounds)
    print(f"gradient steps a second as a share of {LIMIT}: median [quartiles]")
    for name in rates:
        print(f"{name:22} {beside(rates, name, limit=LIMIT)}")
    clean = model(images.to(device) / 255)
    criterion = Untargeted(clean.argmax(1))
    print("fall of the margin on images rounded to 8 bits, mean (more is stronger):")
    for name, pictures in outcome.items():
        rounded = (pictures.to(device) * 255).round() / 255
        fall = criterion.margin(clean) - criterion.margin(model(rounded))
        largest = (rounded - images.to(device) / 255).abs().max() * 255
        print(f"{name:22} {float(fall.mean()):8.3f} within {float(largest):.0f}/255")


if __name__ == "__main__":
    main()
