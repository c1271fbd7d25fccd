"""The recognizers of a job: which there are, which search, which verify."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from services.worker.models.onnx_pack import ARCHITECTURE as ONNX
from services.worker.models.recognizers import (
    TASK,
    Recognizer,
    assemble_recognizer,
    recognizer_of,
)
from services.worker.models.registry import ModelUnavailableError, find_models, parse_weights
from services.worker.runtime.context import JobContext
from shared.model_card import ModelCard
from shared.problems import Problem

# A judge that knows hardly anyone on clean photos proves nothing of cloaked ones.
LEAST_RANK_1 = 0.6
STRONG_RANK_1 = 0.9
MOST_SURROGATES = 4
_Source = tuple[ModelCard, Callable[[], Recognizer]]


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

    By default the judge is the weakest recognizer that can judge and shares neither teacher nor
    training people with the others, and the search uses the others: those with gradients, each
    lineage once. The tenant's own recognizers are used when they are named. Raises
    ``unknown-model``, ``model-unavailable`` and ``invalid-input``.
    """
    known: dict[str, _Source] = {
        card.id: (card, partial(recognizer_of, card, folder))
        for card, folder in find_models(context.settings.registry_dir).values()
        if card.task == TASK
    }
    for name in (*(surrogates or ()), *(judges or ())):
        registered = context.registry.model(name)
        if registered is not None and registered[0].task == TASK:
            known[name] = (registered[0], partial(_parse, *registered))
        if name not in known:
            there = ", ".join(sorted(known))
            raise Problem("unknown-model", f"There is no recognizer {name!r}; there are: {there}.")
    cards = {name: card for name, (card, _) in known.items()}
    judging = tuple(judges) if judges is not None else _default_judges(cards, surrogates)
    searching = tuple(surrogates) if surrogates else _default_surrogates(cards, judging)
    if not searching:
        raise Problem("unknown-model", "No recognizer is left to be cloaked from.")
    for name in searching:
        if not has_gradients(cards[name]):
            raise Problem(
                "invalid-input",
                f"{name} is an ONNX file, which gives no gradients: it can only be a judge.",
            )
    return Roles(
        tuple(_load(context, *known[name]) for name in searching),
        tuple(_load(context, *known[name]) for name in judging),
    )


def _default_judges(
    cards: Mapping[str, ModelCard], surrogates: Sequence[str] | None
) -> tuple[str, ...]:
    """Return the one recognizer that can judge a search with the others, if there is one."""
    if surrogates is not None:
        used = [cards[name] for name in surrogates]
        fit = [card for card in cards.values() if can_judge(card) and held_out(card, used)]
        return tuple(card.id for card in sorted(fit, key=_rank_1, reverse=True)[:1])
    for card in sorted(cards.values(), key=_rank_1):
        others = [other for other in cards.values() if other.id != card.id]
        # The weakest that can judge does: the stronger ones make the better search.
        if others and can_judge(card) and held_out(card, others):
            return (card.id,)
    return ()


def _default_surrogates(cards: Mapping[str, ModelCard], judging: Sequence[str]) -> tuple[str, ...]:
    """Return what a search uses by default, the strongest first.

    No student beside its teacher: it adds nothing. And nothing of a judge's lineage, if something
    else is there: the judge's word would not count.
    """
    fit = [card for card in cards.values() if card.id not in judging and has_gradients(card)]
    judges = [cards[name] for name in judging]
    free = [card for card in fit if all(held_out(judge, [card]) for judge in judges)] or fit
    names = {card.id for card in free}
    apart = [card for card in free if not names & set(card.lineage)]
    return tuple(card.id for card in sorted(apart, key=_rank_1, reverse=True)[:MOST_SURROGATES])


def has_gradients(card: ModelCard) -> bool:
    """Whether a search can use a recognizer: an ONNX file is run, not differentiated."""
    return card.architecture != ONNX


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


def is_strong(card: ModelCard) -> bool:
    """Whether a recognizer knows nearly everybody on clean photos."""
    return _rank_1(card) >= STRONG_RANK_1


def people_of(card: ModelCard) -> tuple[str, ...]:
    """Return the groups of people that a recognizer was trained on, as its card names them."""
    return tuple(str(group) for group in card.training_data.get("people_groups", ()))


def _rank_1(card: ModelCard) -> float:
    return float(card.metrics.get("rank_1", 0.0))


def _parse(card: ModelCard, read: Callable[[], bytes]) -> Recognizer:
    weights = parse_weights(card, read(), place="the registry's copy")
    return assemble_recognizer(card, weights)


def _load(context: JobContext, card: ModelCard, read: Callable[[], Recognizer]) -> LoadedRecognizer:
    def load() -> LoadedRecognizer:
        return LoadedRecognizer(read().to(context.device), card)

    try:
        return context.models.get((card.identity, str(context.device)), load)
    except ModelUnavailableError as error:
        raise Problem("model-unavailable", f"{error}.") from error


def embeddings_of(loaded: LoadedRecognizer, frames: torch.Tensor) -> torch.Tensor:
    """Embed aligned frames ``(N, 3, F, F)`` without gradients."""
    with torch.inference_mode():
        return loaded.recognizer.of_frames(frames.to(loaded.recognizer.device))
