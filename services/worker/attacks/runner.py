"""Runs a batch of images through an attack: steps, progress, cancel, results."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from services.worker.attacks.base import Attack, State
from services.worker.attacks.criteria import Criterion, check_criterion, true_labels
from services.worker.attacks.oracle import Oracle
from services.worker.attacks.randomness import Randomness
from services.worker.attacks.region import Region
from services.worker.attacks.results import AttackBatch, AttackResult
from services.worker.attacks.scene import Scene, Tally
from services.worker.models.base import Classifier
from services.worker.stopping import CancelCheck, Progress


@dataclass
class _Position:
    """Where a run is: the scene, the attack's state and the number of the next step."""

    scene: Scene
    state: State
    number: int

    def drop(self, finished: Tensor) -> None:
        """Let finished images leave."""
        if bool(finished.any()):
            kept = ~finished
            self.scene.narrow(self.scene.rows[kept.cpu()])
            self.state = {name: tensor[kept] for name, tensor in self.state.items()}


def run(
    attack: Attack,
    model: Classifier,
    images: Tensor,
    criterion: Criterion,
    *,
    region: Region | None = None,
    seed: int = 0,
    indices: Sequence[int] | None = None,
    progress: Progress | None = None,
    check_cancel: CancelCheck | None = None,
) -> AttackBatch:
    """Attack a batch of images of one size and return a result for each.

    ``images`` are uint8 ``(N, 3, H, W)``, or floats in [0, 1] on the 8-bit grid. ``indices``
    (default 0..N-1) choose each image's random numbers, together with ``seed``. Images that meet
    the criterion beforehand are left alone. ``check_cancel`` raises to stop.

    Success is measured on the delivered 8-bit image, with the unmodified model.
    Raises ``ValueError`` for a model in train mode, labels that do not exist, or images off the
    8-bit grid.
    """
    pictures = to_uint8(images)
    check_criterion(criterion, images=len(pictures), classes=len(model.classes))
    numbers = list(range(len(pictures))) if indices is None else list(indices)
    if len(numbers) != len(pictures):
        raise ValueError(f"{len(pictures)} images need as many indices, not {len(numbers)}")
    oracle = Oracle(
        model,
        pictures[:2].float() / 255,
        check_cancel=check_cancel,
        fold=attack.fold,
        search_bf16=attack.search_bf16,
    )
    clean = oracle.confirm(_scaled(pictures, oracle)).cpu()
    scene = Scene(
        oracle,
        pictures,
        criterion=criterion,
        allowed=_allowed(region, pictures),
        indices=numbers,
        randomness=Randomness(seed),
        tally=Tally.of(pictures, clean),
        rows=(criterion.to("cpu").margin(clean) >= 0).nonzero()[:, 0],
    )
    position = _Position(scene, attack.begin(scene) if len(scene.rows) else {}, 0)
    while position.number < attack.total_steps and len(scene.rows):
        if check_cancel is not None:
            check_cancel()
        finished = attack.step(scene, position.state, position.number)
        position.number += 1
        position.drop(finished)
        if progress is not None:
            done = position.number if len(scene.rows) else attack.total_steps
            fooled = int(scene.tally.met.sum())
            progress(done, attack.total_steps, f"{attack.name}: {fooled} images fooled so far")
    after = _delivered_logits(scene.tally, oracle)
    return AttackBatch(
        attack=attack.name,
        parameters=asdict(attack),
        targeted=criterion.targeted,
        uses_gradients=attack.uses_gradients,
        seed=seed,
        results=_results(pictures, numbers, criterion.to("cpu"), clean, after, scene.tally),
    )


def to_uint8(images: Tensor) -> Tensor:
    """Return images as uint8 ``(N, 3, H, W)``; floats in [0, 1] must lie on the 8-bit grid."""
    if images.dim() != 4 or images.shape[1] != 3:
        raise ValueError(f"images are (N, 3, H, W), not {tuple(images.shape)}")
    if images.dtype == torch.uint8:
        return images.cpu()
    levels = images.detach().float().cpu() * 255
    whole = levels.round()
    if not bool(((levels - whole).abs() < 1e-2).all()):
        raise ValueError("images must lie on the 8-bit grid: round them before attacking")
    if not bool(((whole >= 0) & (whole <= 255)).all()):
        raise ValueError("images must lie in [0, 1]")
    return whole.to(torch.uint8)


def _allowed(region: Region | None, pictures: Tensor) -> Tensor:
    shape = (len(pictures), *pictures.shape[2:])
    if region is None:
        return torch.ones(shape, dtype=torch.bool)
    if region.allowed.shape != shape:
        raise ValueError(f"the region is {tuple(region.allowed.shape)}, the images are {shape}")
    return region.allowed.cpu()


def _delivered_logits(tally: Tally, oracle: Oracle) -> Tensor:
    """Return what the model as it was given says of the images kept, asking about the unknown."""
    logits = tally.logits.clone()
    unknown = logits.isnan().any(1)
    if bool(unknown.any()):
        logits[unknown] = oracle.confirm(_scaled(tally.adversarial[unknown], oracle)).cpu()
    return logits


def _scaled(pictures: Tensor, oracle: Oracle) -> Tensor:
    scaled = pictures.to(oracle.device).float() / 255
    return scaled.contiguous(memory_format=torch.channels_last)


def _results(
    pictures: Tensor,
    indices: list[int],
    criterion: Criterion,
    clean: Tensor,
    after: Tensor,
    tally: Tally,
) -> tuple[AttackResult, ...]:
    labels = true_labels(criterion, clean).cpu()
    rows = torch.arange(len(pictures))
    met_before = criterion.margin(clean) < 0
    # Claimed while searching (within its distance, too) and confirmed on what is delivered.
    met_after = (criterion.margin(after) < 0) & (tally.met | met_before)
    before, now = clean.softmax(1)[rows, labels], after.softmax(1)[rows, labels]
    changes = tally.adversarial.int() - pictures.int()
    first = torch.where(met_after, tally.query_at_success, 0).tolist()
    return tuple(
        AttackResult(
            index=indices[row],
            success=bool(met_after[row]),
            met_before=bool(met_before[row]),
            queries=int(tally.queries[row]),
            gradients=int(tally.gradients[row]),
            query_at_success=first[row] or None,
            zero_gradients=int(tally.zero_gradients[row]),
            label=int(labels[row]),
            label_before=int(clean[row].argmax()),
            label_after=int(after[row].argmax()),
            confidence_before=float(before[row]),
            confidence_after=float(now[row]),
            l0=int((changes[row] != 0).any(0).sum()),
            l2=float(changes[row].double().norm()),
            linf=int(changes[row].abs().max()),
            adversarial=tally.adversarial[row].permute(1, 2, 0).contiguous().numpy().copy(),
        )
        for row in range(len(pictures))
    )
