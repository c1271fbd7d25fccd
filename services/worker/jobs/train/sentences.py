"""What a ``train`` job tells its client in sentences: how to use the model, and its warnings."""

from services.worker.datasets.splits import Sides
from shared.model_card import ModelCard
from shared.results.train import HeldOutFigures


def how_to_use(card: ModelCard) -> str:
    """Return the request that uses a model of this task."""
    if card.task in ("mask", "mask3"):
        return f'POST /v1/jobs/classify, or attack, or defend, with "model": "{card.id}"'
    return f"GET /v1/models/{card.id} has its card and its weights"


def warnings_of(sides: Sides, test: HeldOutFigures | None) -> list[str]:
    """Return what makes the figures of a training doubtful."""
    warnings = []
    if test is None:
        warnings.append("the data sets have no `test` split: nothing says how well it generalizes")
    if sides.left_out:
        warnings.append(f"{sides.left_out} images were left out: near-duplicates on two sides")
    missing = [name for name, number in sides.val.counts.items() if not number]
    if missing:
        warnings.append(f"no validation image shows {', '.join(missing)}")
    return warnings
