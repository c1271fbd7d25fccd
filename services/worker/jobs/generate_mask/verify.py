"""What recognizers still see of the people held out from a ``generate-mask`` job."""

from contextlib import suppress

import torch

from services.worker.jobs.generate_mask.inputs import WearerSides
from services.worker.jobs.kit.rates import as_accuracy
from services.worker.jobs.kit.recognizers import LEAST_RANK_1, LoadedRecognizer, Roles, held_out
from services.worker.masks.designs import Designs
from services.worker.masks.evaluation import MaskJudge, random_pattern
from services.worker.masks.outlines import plain
from services.worker.masks.wearers import Wearers, gallery
from services.worker.stopping import CancelCheck
from shared.results.generate_mask import MaskFigures
from shared.results.train import Accuracy
from shared.specs.generate_mask import GenerateMaskSpec

BLUE, WHITE = (0.35, 0.6, 0.85), (0.92, 0.92, 0.92)


def judge(
    spec: GenerateMaskSpec,
    sides: WearerSides,
    roles: Roles,
    *,
    ours: Designs,
    untrained: Designs,
    check: CancelCheck,
) -> tuple[tuple[MaskFigures, ...], list[str]]:
    """Ask every recognizer about the people held out, and say what keeps it from an answer."""
    if sides.held_out is None:
        return (), ["under three photos: none could be held out to evaluate the designs"]
    wearings: dict[str, Designs | None] = {
        "nothing": None,
        "plain blue": Designs(plain(BLUE)),
        "plain white": Designs(plain(WHITE)),
        "random pattern": Designs(random_pattern(spec.seed)),
        "untrained": untrained,
        "ours": ours,
    }
    rows: list[MaskFigures] = []
    warnings: list[str] = []
    cards = [one.card for one in roles.surrogates]
    for loaded in (*roles.surrogates, *roles.judges):
        is_judge = loaded in roles.judges
        judge = _mask_judge(loaded, sides.held_out)
        if judge is None and not warnings:
            warnings.append("too few people or photos were held out to count who is recognized")
        for name, design in wearings.items():
            check()
            rank_1, accepted, similarity = _seen(spec, sides, loaded, judge, design)
            if is_judge and name == "plain blue" and rank_1 is not None:
                warnings += _unable(loaded.card.id, rank_1)
            rows.append(
                MaskFigures(
                    recognizer=loaded.card.id,
                    role="judge" if is_judge else "surrogate",
                    held_out=is_judge and held_out(loaded.card, cards),
                    wearing=name,  # type: ignore[arg-type]
                    rank_1=rank_1,
                    accepted=accepted,
                    similarity=round(similarity, 4),
                )
            )
    return tuple(rows), warnings


def _unable(name: str, behind_plain: Accuracy) -> list[str]:
    """Warn of a judge that identifies too few wearers of a plain mask to evaluate designs."""
    if behind_plain.rate is None or behind_plain.rate >= LEAST_RANK_1:
        return []
    return [
        f"{name} knows {behind_plain.rate:.0%} of the wearers of a plain mask, "
        f"under {LEAST_RANK_1:.0%}: it cannot evaluate designs"
    ]


def _mask_judge(loaded: LoadedRecognizer, wearers: Wearers) -> MaskJudge | None:
    """Return a judge of many people, if there are enough of them."""
    if len(wearers.names) < 2:
        return None
    with suppress(ValueError):
        return MaskJudge(loaded.recognizer, wearers)
    return None


def _seen(
    spec: GenerateMaskSpec,
    sides: WearerSides,
    loaded: LoadedRecognizer,
    judge: MaskJudge | None,
    design: Designs | None,
) -> tuple[Accuracy | None, Accuracy | None, float]:
    wearers = sides.held_out
    if wearers is None:
        raise ValueError("nobody was held out")
    if judge is not None:
        found = judge.bare if design is None else judge.wearing(design, shape=spec.shape)
        return as_accuracy(found.rank_1), as_accuracy(found.accepted), found.similarity
    known = sides.training if len(wearers.names) == 1 else wearers
    return None, None, _similarity(loaded, known, wearers, design, spec)


@torch.inference_mode()
def _similarity(
    loaded: LoadedRecognizer,
    known: Wearers,
    wearers: Wearers,
    design: Designs | None,
    spec: GenerateMaskSpec,
) -> float:
    recognizer = loaded.recognizer
    mine = gallery(known, recognizer)[wearers.people]
    faces = wearers.faces(range(len(wearers)), recognizer.frame_side)
    if design is not None:
        dealt = design.of(torch.arange(len(wearers)), wearers.people)
        faces = wearers.wear(faces, range(len(wearers)), dealt, shape=spec.shape)
    device = recognizer.device
    embeddings = recognizer.of_frames(faces.to(device)).cpu()
    return float((embeddings * mine).sum(1).mean())
