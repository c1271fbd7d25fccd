"""The recognizers of a job: which there are, which search, which verify."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from services.worker.models.recognizers import TASK, Recognizer, recognizer_of
from services.worker.models.registry import ModelUnavailableError, find_models
from services.worker.runtime.context import JobContext
from shared.model_card import ModelCard
from shared.problems import Problem

# A judge that knows hardly anyone on clean photos proves nothing of cloaked ones.
LEAST_RANK_1 = 0.6


@dataclass(frozen=True)
class LoadedRecognizer:
    """A recognizer ready to serve, with its card."""

    recognizer: Recognizer
    card: ModelCard

    @property
    def bytes(self) -> int:
        """Memory that the weights take."""
        tensors = [*self.recognizer.parameters(), *self.recognizer.buffers()]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    @property
    def people(self) -> tuple[str, ...]:
        """The groups of people it was trained on."""
        return people_of(self.card)

    @property
    def thresholds(self) -> dict[str, float]:
        """Similarities over which two photos are taken for one person, by false-accept rate."""
        return dict(self.card.metrics.get("thresholds", {}))


@dataclass(frozen=True)
class Roles:
    """Recognizers that the search uses, and those that verify."""

    surrogates: tuple[LoadedRecognizer, ...]
    judges: tuple[LoadedRecognizer, ...]


def choose_recognizers(
    context: JobContext, surrogates: Sequence[str] | None, judges: Sequence[str] | None
) -> Roles:
    """Return the recognizers that a job names, or the default ones.

    By default the judge is the best known recognizer that shares neither teacher nor training
    people with some other one, and the search uses those others. Raises ``unknown-model`` and
    ``model-unavailable``.
    """
    cards = {
        card.id: (card, folder)
        for card, folder in find_models(context.settings.registry_dir).values()
        if card.task == TASK
    }
    for name in (*(surrogates or ()), *(judges or ())):
        if name not in cards:
            known = ", ".join(sorted(cards))
            raise Problem("unknown-model", f"There is no recognizer {name!r}; there are: {known}.")
    judging = tuple(judges) if judges is not None else _default_judges(cards, surrogates)
    searching = tuple(surrogates or (name for name in cards if name not in judging))
    if not searching:
        raise Problem("unknown-model", "No recognizer is left to be cloaked from.")
    return Roles(
        tuple(_load(context, *cards[name]) for name in searching),
        tuple(_load(context, *cards[name]) for name in judging),
    )


def _default_judges(
    cards: dict[str, tuple[ModelCard, Path]], surrogates: Sequence[str] | None
) -> tuple[str, ...]:
    """Return the one recognizer that can judge a search with the others, if there is one."""
    if surrogates is not None:
        used = [cards[name][0] for name in surrogates]
        fit = [card for card, _ in cards.values() if can_judge(card) and held_out(card, used)]
        return tuple(card.id for card in sorted(fit, key=_rank_1, reverse=True)[:1])
    for card in sorted((card for card, _ in cards.values()), key=_rank_1):
        others = [other for other, _ in cards.values() if other.id != card.id]
        # The weakest that can judge does: the stronger ones make the better search.
        if others and can_judge(card) and held_out(card, others):
            return (card.id,)
    return ()


def held_out(judge: ModelCard, used: Sequence[ModelCard]) -> bool:
    """Whether a judge shares neither teacher nor training people with any model used.

    One whose card does not say what it was trained on is not known to be held out.
    """
    people, family = set(people_of(judge)), {judge.id, *judge.lineage}
    return bool(people) and all(
        people_of(card)
        and not people & set(people_of(card))
        and not family & {card.id, *card.lineage}
        for card in used
    )


def can_judge(card: ModelCard) -> bool:
    """Whether a recognizer identifies enough people on clean photos, and has a threshold."""
    return _rank_1(card) >= LEAST_RANK_1 and bool(card.metrics.get("thresholds"))


def people_of(card: ModelCard) -> tuple[str, ...]:
    """Return the groups of people that a recognizer was trained on, as its card names them."""
    return tuple(str(group) for group in card.training_data.get("people_groups", ()))


def _rank_1(card: ModelCard) -> float:
    return float(card.metrics.get("rank_1", 0.0))


def _load(context: JobContext, card: ModelCard, folder: Path) -> LoadedRecognizer:
    def load() -> LoadedRecognizer:
        recognizer = recognizer_of(card, folder).to(context.device)
        return LoadedRecognizer(recognizer, card)

    try:
        return context.models.get((card.identity, str(context.device)), load)
    except ModelUnavailableError as error:
        raise Problem("model-unavailable", f"{error}.") from error


def embeddings_of(loaded: LoadedRecognizer, frames: torch.Tensor) -> torch.Tensor:
    """Embed aligned frames ``(N, 3, F, F)`` without gradients."""
    with torch.inference_mode():
        return loaded.recognizer.of_frames(frames.to(next(loaded.recognizer.parameters()).device))
