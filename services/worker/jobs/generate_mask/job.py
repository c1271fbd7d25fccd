"""``generate-mask``: designs masks against recognizers, and says what these still see."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from safetensors.torch import load
from torch import Tensor, nn

from services.worker.jobs.generate_mask.hog import job as generate_mask_hog
from services.worker.jobs.generate_mask.inputs import WearerSides, one_person, read_wearers
from services.worker.jobs.generate_mask.live import LiveDesigns
from services.worker.jobs.generate_mask.pictures import curves, sheet, worn
from services.worker.jobs.generate_mask.verify import judge
from services.worker.jobs.kit.budget import require_batch
from services.worker.jobs.kit.checkpoint import CheckpointWriter
from services.worker.jobs.kit.provenance import device_name, versions
from services.worker.jobs.kit.recognizers import (
    Roles,
    choose_recognizers,
)
from services.worker.masks.designs import Designs, draw
from services.worker.masks.evaluation import judged_sides
from services.worker.masks.generators import Architecture, build_generator, condition_of
from services.worker.masks.printing import as_pdf, as_png, size_in_mm
from services.worker.masks.terms import likeness, non_printability
from services.worker.masks.training import MaskConfig, MaskEpoch, MaskRun, State, train_masks
from services.worker.masks.wearers import Wearers, gallery
from services.worker.models.optimized.frozen import has_fast_bf16
from services.worker.models.registry import pack_weights
from services.worker.runtime.context import JobContext
from services.worker.training.checkpoint import pack, unpack
from shared.model_card import ModelCard
from shared.problems import Problem
from shared.results import ModelUsed, Timing
from shared.results.generate_mask import (
    GenerateMaskResult,
    MaskDesign,
    MaskEpochFigures,
    MaskFigures,
)
from shared.specs.generate_mask import GenerateMaskSpec

TASK = "mask-generator"
_TENSORS, _VALUES = "state.safetensors", "state.json"
LICENSE = "as the photos it was trained on allow; research and evaluation"


@dataclass(frozen=True)
class _Made:
    """A generator, and what it was made from."""

    generator: nn.Module
    architecture: Architecture
    run: MaskRun | None
    sides: WearerSides | None
    roles: Roles | None
    embeddings: Tensor | None = None  # of the people whom a conditional generator draws for

    def draw(self, spec: GenerateMaskSpec) -> Designs:
        """Draw the job's designs; same seed, same designs."""
        return draw(self.generator, spec.designs, seed=spec.seed, embeddings=self.embeddings)

    def untrained(self, spec: GenerateMaskSpec) -> Designs:
        """Draw what the same generator draws before it has learned anything."""
        condition = 0 if self.embeddings is None else self.embeddings.shape[1]
        generator = build_generator(self.architecture, seed=spec.seed, condition=condition)
        return replace(self, generator=generator).draw(spec)


def run(context: JobContext, spec: GenerateMaskSpec) -> GenerateMaskResult:
    """Train a generator, or take one that was kept, and draw designs from it."""
    if spec.method == "hog":
        return generate_mask_hog.run(context, spec)
    began = time.monotonic()
    with TemporaryDirectory() as folder:
        made = _drawn_from(context, spec) if spec.from_model else _train(context, spec, folder)
        drawn = made.draw(spec)
        designs = drawn.shown
        warnings = list(_warnings(spec, made))
        figures: tuple[MaskFigures, ...] = ()
        if made.sides is not None and made.roles is not None:
            context.progress(97, 100, "asking the recognizers")
            figures, unable = judge(
                spec,
                made.sides,
                made.roles,
                ours=drawn,
                untrained=made.untrained(spec),
                check=context.check,
            )
            warnings += unable
        model_id = _keep(context, spec, made)
        shown = None
        if made.sides is not None:
            wearers = made.sides.held_out or made.sides.training
            picture = worn(drawn, wearers, spec.shape)
            shown = context.artifacts.put("worn.png", picture, "image/png")
        curve = None
        if made.run is not None:
            curve = context.artifacts.put("curves.png", curves(made.run.history), "image/png")
    cards = [one.card for one in (*made.roles.surrogates, *made.roles.judges)] if made.roles else []
    if made.sides is not None and made.sides.projector is not None:
        cards.append(made.sides.projector)
    return GenerateMaskResult(
        parameters=spec.model_dump(mode="json", exclude={"images", "hog"}),
        models=tuple(
            ModelUsed(id=card.id, architecture=card.architecture, sha256=card.sha256)
            for card in cards
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
        sheet=context.artifacts.put("designs.png", sheet(designs), "image/png"),
        worn=shown,
        curves=curve,
        model=model_id,
        people=_counts(made.sides, people=True),
        photos=_counts(made.sides, people=False),
        figures=figures,
        epochs=tuple(_epoch(one) for one in made.run.history) if made.run else (),
        likeness=round(float(likeness(designs)), 4),
    )


def _train(context: JobContext, spec: GenerateMaskSpec, folder: str) -> _Made:
    roles = choose_recognizers(context, spec.recognizers, spec.judges)
    sides = read_wearers(context, spec, Path(folder))
    batch = min(spec.hyperparameters.batch_size, len(sides.training.names))
    for surrogate in roles.surrogates:
        network = surrogate.recognizer.network
        require_batch(network, surrogate.card.input_size, batch, "faces to design for")
    config = MaskConfig(
        generator=spec.generator,
        experiment=spec.experiment,
        conditional=spec.conditional,
        shape=spec.shape,
        bf16=has_fast_bf16(context.device),
        seed=spec.seed,
        **spec.hyperparameters.model_dump(),
    )
    writer = CheckpointWriter(context)
    kept = writer.load(_TENSORS, _VALUES)
    resume = unpack(kept[_TENSORS], kept[_VALUES].decode()) if kept else None

    def files(state: State) -> dict[str, bytes]:
        tensors, document = pack(state)
        return {_TENSORS: tensors, _VALUES: document.encode()}

    def progress(epoch: MaskEpoch, epochs: int) -> None:
        message = f"epoch {epoch.number} of {epochs}: similarity {epoch.similarity:.3f}"
        done = 5 + round(90 * epoch.number / epochs)
        context.progress(done, 100, message, **_epoch(epoch).model_dump())

    trained = train_masks(
        sides.training,
        [one.recognizer for one in roles.surrogates],
        config,
        progress=progress,
        watch=LiveDesigns(context.event, spec.seed),
        check_cancel=context.check,
        save=lambda state: writer.save(lambda: files(state)),
        resume=resume,
    )
    embeddings = None
    if spec.conditional:
        embeddings = gallery(_known(sides), roles.surrogates[0].recognizer)
    return _Made(trained.generator, spec.generator, trained, sides, roles, embeddings)


def _known(sides: WearerSides) -> Wearers:
    """Return the photos that designs for the people shown are drawn from: none that judges them."""
    if sides.held_out is None or len(sides.training.names) == 1:
        return sides.training
    return sides.held_out.of(judged_sides(sides.held_out).gallery.tolist())


def _drawn_from(context: JobContext, spec: GenerateMaskSpec) -> _Made:
    wanted = str(spec.from_model)
    found = context.registry.model(wanted)
    if found is None or found[0].task != TASK:
        raise Problem("unknown-model", f"There is no generator of masks {wanted!r}.")
    card, read = found
    architecture: Architecture = card.architecture.removeprefix("mask_")  # type: ignore[assignment]
    try:
        weights = {name: weight.float() for name, weight in load(read()).items()}
        condition = condition_of(weights)
        generator = build_generator(architecture, seed=0, condition=condition)
        generator.load_state_dict(weights)
    except (ValueError, RuntimeError) as error:
        raise Problem("model-unavailable", f"{card.id}: {error}.") from error
    embeddings = _embedded(context, spec, card, condition)
    return _Made(generator, architecture, None, None, None, embeddings)


def _embedded(
    context: JobContext, spec: GenerateMaskSpec, card: ModelCard, condition: int
) -> Tensor | None:
    """Return the embedding that a kept generator draws from, ``(1, D)``, if it takes one."""
    if bool(condition) != bool(spec.images):
        said = "draws for a wearer: send photos of them" if condition else "draws for anyone"
        raise Problem("invalid-input", f"{card.id} {said}; `images` are for conditional ones.")
    if not condition:
        return None
    recognizer = choose_recognizers(context, card.lineage[:1], []).surrogates[0].recognizer
    return gallery(one_person(context, spec), recognizer)


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
    context.registry.save_model(ModelCard.model_validate(card), data)
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
                picture=context.artifacts.put(
                    f"design-{number}.png", as_png(design, spec.shape), "image/png"
                ),
                page=context.artifacts.put(f"design-{number}.pdf", page, "application/pdf"),
                width_mm=round(width, 2),
                height_mm=round(height, 2),
                non_printability=round(score, 4),
            )
        )
    return tuple(rows)


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


def _counts(sides: WearerSides | None, *, people: bool) -> dict[str, int]:
    if sides is None:
        return {}
    held = sides.held_out
    counted = [len(one.names) if people else len(one) for one in (sides.training, held) if one]
    return dict(zip(("trained on", "held out"), counted, strict=False))


def _warnings(spec: GenerateMaskSpec, made: _Made) -> Sequence[str]:
    warnings = ["digital, not physically tested; not a medical device"]
    if made.sides is not None and made.sides.missed:
        warnings.append(f"no face was found in {made.sides.missed} photos")
    if made.sides is not None and made.sides.projector is not None:
        warnings += _of_projector(made.sides)
    if made.roles is not None and not made.roles.judges:
        warnings.append("no recognizer was held out: the figures say nothing of others")
    if spec.generator == "pixels" and spec.designs > 1:
        warnings.append("`pixels` learns one design: all of them are the same")
    return warnings


def _of_projector(sides: WearerSides) -> list[str]:
    warnings = ["`cnn` learned from synthetic surgical masks; `nothing` wears the photo's own mask"]
    if sides.unmasked:
        warnings.append(f"{sides.unmasked} people wear a mask on no photo and were left out")
    if bool((sides.training.known_by & sides.training.wearable).any()):
        warnings.append("people without a bare photo are known by their masked ones")
    return warnings
