"""``generate-mask``: designs masks against recognizers, and says what these still see."""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load
from torch import Tensor, nn

from services.worker.jobs import generate_mask_hog
from services.worker.jobs.generate_mask_people import Sides, read_wearers
from services.worker.jobs.generate_mask_pictures import curves, sheet, worn
from services.worker.jobs.provenance import device_name, versions
from services.worker.jobs.recognizers import (
    LoadedRecognizer,
    Roles,
    choose_recognizers,
    held_out,
)
from services.worker.masks.evaluation import MaskJudge, random_pattern
from services.worker.masks.generators import Architecture, build_generator, latents
from services.worker.masks.outlines import plain
from services.worker.masks.printing import as_pdf, as_png, size_in_mm
from services.worker.masks.projector import put_on
from services.worker.masks.terms import likeness, non_printability
from services.worker.masks.training import MaskConfig, MaskEpoch, MaskRun, State, train_masks
from services.worker.masks.wearers import Wearers, gallery
from services.worker.models.registry import pack_weights
from services.worker.runtime.context import JobContext
from services.worker.training.checkpoint import pack, unpack
from services.worker.training.metrics import Rate
from shared.model_card import ModelCard
from shared.problems import Problem
from shared.results import ModelUsed, Timing
from shared.results.generate_mask import (
    GenerateMaskResult,
    MaskDesign,
    MaskEpochFigures,
    MaskFigures,
)
from shared.results.train import Accuracy
from shared.specs.generate_mask import GenerateMaskSpec

TASK = "mask-generator"
SAVE_SECONDS = 30.0
BLUE, WHITE = (0.35, 0.6, 0.85), (0.92, 0.92, 0.92)
LICENSE = "as the photos it was trained on allow; research and evaluation"


@dataclass(frozen=True)
class _Made:
    """A generator, and what it was made from."""

    generator: nn.Module
    architecture: Architecture
    run: MaskRun | None
    sides: Sides | None
    roles: Roles | None


def run(context: JobContext, spec: GenerateMaskSpec) -> GenerateMaskResult:
    """Train a generator, or take one that was kept, and draw designs from it."""
    if spec.method == "hog":
        return generate_mask_hog.run(context, spec)
    began = time.monotonic()
    with TemporaryDirectory() as folder:
        made = _drawn_from(context, spec) if spec.from_model else _train(context, spec, folder)
        designs = draw(made.generator, spec)
        warnings = list(_warnings(spec, made))
        figures: tuple[MaskFigures, ...] = ()
        if made.sides is not None and made.roles is not None:
            context.progress(97, 100, "asking the recognizers")
            figures, said = _judge(context, spec, made.sides, made.roles, designs)
            warnings += said
        model_id = _keep(context, spec, made)
        shown = None
        if made.sides is not None:
            wearers = made.sides.held_out or made.sides.training
            picture = worn(designs, wearers, spec.shape)
            shown = context.put_artifact("worn.png", picture, "image/png")
        drawn = None
        if made.run is not None:
            drawn = context.put_artifact("curves.png", curves(made.run.history), "image/png")
    recognizers = (*made.roles.surrogates, *made.roles.judges) if made.roles else ()
    return GenerateMaskResult(
        parameters=spec.model_dump(mode="json", exclude={"images", "hog"}),
        models=tuple(
            ModelUsed(id=one.card.id, architecture=one.card.architecture, sha256=one.card.sha256)
            for one in recognizers
        ),
        device=device_name(context.device),
        versions=versions(),
        timing=Timing(
            total=round(time.monotonic() - began, 4),
            parts={"training": round(made.run.seconds, 4)} if made.run else {},
        ),
        main_artifact=shown or "designs.png",
        warnings=tuple(warnings),
        designs=_designs(context, spec, designs),
        sheet=context.put_artifact("designs.png", sheet(designs), "image/png"),
        worn=shown,
        curves=drawn,
        model=model_id,
        people=_counts(made.sides, people=True),
        photos=_counts(made.sides, people=False),
        figures=figures,
        epochs=tuple(_epoch(one) for one in made.run.history) if made.run else (),
        likeness=round(float(likeness(designs)), 4),
    )


def draw(generator: nn.Module, spec: GenerateMaskSpec) -> Tensor:
    """Draw the job's designs ``(N, 3, 128, 128)`` in [0, 1]; same seed, same designs."""
    generator.eval()
    drawn = latents(spec.designs, torch.Generator().manual_seed(spec.seed))
    with torch.inference_mode():
        designs: Tensor = generator(drawn.to(next(generator.parameters()).device)).cpu()
    return designs.clone()


def _train(context: JobContext, spec: GenerateMaskSpec, folder: str) -> _Made:
    roles = choose_recognizers(context, spec.recognizers, spec.judges)
    sides = read_wearers(context, spec, Path(folder))
    config = MaskConfig(
        generator=spec.generator,
        experiment=spec.experiment,
        shape=spec.shape,
        seed=spec.seed,
        **spec.hyperparameters.model_dump(),
    )
    kept = context.load_checkpoint()
    resume = unpack(kept["state.safetensors"], kept["state.json"].decode()) if kept else None
    saved_at = time.monotonic()

    def save(state: State) -> None:
        nonlocal saved_at
        if time.monotonic() - saved_at >= SAVE_SECONDS:
            tensors, document = pack(state)
            files = {"state.safetensors": tensors, "state.json": document.encode()}
            context.save_checkpoint(files)
            saved_at = time.monotonic()

    def progress(epoch: MaskEpoch, epochs: int) -> None:
        message = f"epoch {epoch.number} of {epochs}: similarity {epoch.similarity:.3f}"
        done = 5 + round(90 * epoch.number / epochs)
        context.progress(done, 100, message, **_epoch(epoch).model_dump())

    trained = train_masks(
        sides.training,
        [one.recognizer for one in roles.surrogates],
        config,
        progress=progress,
        check_cancel=context.check,
        save=save,
        resume=resume,
    )
    return _Made(trained.generator, spec.generator, trained, sides, roles)


def _drawn_from(context: JobContext, spec: GenerateMaskSpec) -> _Made:
    wanted = str(spec.from_model)
    found = context.registered_model(wanted)
    if found is None or found[0].task != TASK:
        raise Problem("unknown-model", f"There is no generator of masks {wanted!r}.")
    card, read = found
    architecture: Architecture = card.architecture.removeprefix("mask_")  # type: ignore[assignment]
    try:
        generator = build_generator(architecture, seed=0)
        generator.load_state_dict({k: v.float() for k, v in load(read()).items()})
    except (ValueError, RuntimeError) as error:
        raise Problem("model-unavailable", f"{card.id}: {error}.") from error
    return _Made(generator, architecture, None, None, None)


def _keep(context: JobContext, spec: GenerateMaskSpec, made: _Made) -> str | None:
    if spec.model_id is None or made.run is None or made.sides is None or made.roles is None:
        return None
    card, data = pack_weights(
        made.generator,
        id=spec.model_id,
        task=TASK,
        architecture=f"mask_{made.architecture}",
        classes=(),
        input_size=(128, 128),
        crop_margin=0.0,
        license=LICENSE,
        lineage=tuple(one.card.id for one in made.roles.surrogates),
        training_data=_counts(made.sides, people=True),
        training=spec.hyperparameters.model_dump(),
    )
    context.save_model(ModelCard.model_validate(card), data)
    return spec.model_id


def _designs(
    context: JobContext, spec: GenerateMaskSpec, designs: Tensor
) -> tuple[MaskDesign, ...]:
    width, height = size_in_mm(spec.shape)
    scores = non_printability(designs).tolist()
    rows = []
    for number, (design, score) in enumerate(zip(designs, scores, strict=True)):
        page = as_pdf(design, spec.shape, title=f"Bauta, design {number + 1}")
        rows.append(
            MaskDesign(
                picture=context.put_artifact(
                    f"design-{number}.png", as_png(design, spec.shape), "image/png"
                ),
                page=context.put_artifact(f"design-{number}.pdf", page, "application/pdf"),
                width_mm=round(width, 2),
                height_mm=round(height, 2),
                non_printability=round(score, 4),
            )
        )
    return tuple(rows)


def _judge(
    context: JobContext, spec: GenerateMaskSpec, sides: Sides, roles: Roles, designs: Tensor
) -> tuple[tuple[MaskFigures, ...], list[str]]:
    wearings: dict[str, Tensor | None] = {
        "nothing": None,
        "plain blue": plain(BLUE),
        "plain white": plain(WHITE),
        "random pattern": random_pattern(spec.seed),
        "untrained": draw(build_generator(spec.generator, seed=spec.seed), spec),
        "ours": designs,
    }
    if sides.held_out is None:
        return (), ["under three photos: none was left to judge the designs by"]
    rows: list[MaskFigures] = []
    warnings: list[str] = []
    cards = [one.card for one in roles.surrogates]
    for loaded in (*roles.surrogates, *roles.judges):
        is_judge = loaded in roles.judges
        judge = _mask_judge(loaded, sides.held_out)
        if judge is None and not warnings:
            warnings.append("too few people or photos were held out to count who is recognized")
        for name, design in wearings.items():
            context.check()
            rank_1, accepted, similarity = _seen(spec, sides, loaded, judge, design)
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


def _mask_judge(loaded: LoadedRecognizer, wearers: Wearers) -> MaskJudge | None:
    """Return a judge of many people, if there are enough of them."""
    if len(wearers.names) < 2:
        return None
    with suppress(ValueError):
        return MaskJudge(loaded.recognizer, wearers)
    return None


def _seen(
    spec: GenerateMaskSpec,
    sides: Sides,
    loaded: LoadedRecognizer,
    judge: MaskJudge | None,
    design: Tensor | None,
) -> tuple[Accuracy | None, Accuracy | None, float]:
    wearers = sides.held_out
    if wearers is None:
        raise ValueError("nobody was held out")
    if judge is not None:
        found = judge.bare if design is None else judge.wearing(design, shape=spec.shape)
        return _accuracy(found.rank_1), _accuracy(found.accepted), found.similarity
    known = sides.training if len(wearers.names) == 1 else wearers
    return None, None, _similarity(loaded, known, wearers, design, spec)


@torch.inference_mode()
def _similarity(
    loaded: LoadedRecognizer,
    known: Wearers,
    wearers: Wearers,
    design: Tensor | None,
    spec: GenerateMaskSpec,
) -> float:
    recognizer = loaded.recognizer
    mine = gallery(known, recognizer)[wearers.people]
    faces = wearers.faces(range(len(wearers)), recognizer.input_size[0])
    if design is not None:
        turn = torch.arange(len(wearers)) % len(design)
        faces = put_on(faces, design[turn], wearers.fits, shape=spec.shape)
    device = next(recognizer.parameters()).device
    embeddings = recognizer.of_frames(faces.to(device)).cpu()
    return float((embeddings * mine).sum(1).mean())


def _accuracy(rate: Rate) -> Accuracy:
    return Accuracy(
        right=rate.successes, total=rate.total, rate=rate.value, low=rate.low, high=rate.high
    )


def _epoch(epoch: MaskEpoch) -> MaskEpochFigures:
    loss = epoch.discriminator_loss
    return MaskEpochFigures(
        epoch=epoch.number,
        similarity=round(epoch.similarity, 5),
        variation=round(epoch.variation, 5),
        printability=round(epoch.printability, 5),
        likeness=round(epoch.likeness, 5),
        discriminator_loss=None if loss is None else round(loss, 5),
    )


def _counts(sides: Sides | None, *, people: bool) -> dict[str, int]:
    if sides is None:
        return {}
    held = sides.held_out
    counted = [len(one.names) if people else len(one) for one in (sides.training, held) if one]
    return dict(zip(("trained on", "held out"), counted, strict=False))


def _warnings(spec: GenerateMaskSpec, made: _Made) -> Sequence[str]:
    warnings = ["digital, not physically tested; not a medical device"]
    if made.sides is not None and made.sides.missed:
        warnings.append(f"no face was found in {made.sides.missed} photos")
    if made.roles is not None and not made.roles.judges:
        warnings.append("no recognizer was held out: the figures say nothing of others")
    if spec.generator == "pixels" and spec.designs > 1:
        warnings.append("`pixels` learns one design: all of them are the same")
    return warnings
