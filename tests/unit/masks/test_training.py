"""Training against small recognizers: what it lowers, resumes, and refuses."""

import tracemalloc
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from services.worker.faces.alignment import FRAME_POINTS
from services.worker.masks import training
from services.worker.masks.evaluation import (
    MaskJudge,
    judged_sides,
    named_right,
    random_pattern,
)
from services.worker.masks.generators import (
    ConvolutionalGenerator,
    build_generator,
    conditioned,
    latents,
)
from services.worker.masks.outlines import plain
from services.worker.masks.projector import fit, put_on
from services.worker.masks.training import MaskConfig, train_masks
from services.worker.masks.wearers import Wearers, gallery, gather
from services.worker.models.recognizers import Recognizer

CONFIG = MaskConfig(epochs=15, batch_size=6, max_lr=0.02, printability=0.0, variation=0.0)


def weights(run: Any) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = run.generator.state_dict()
    return state


@pytest.mark.parametrize("architecture", ["dense", "convolutional", "pixels"])
def test_wearers_become_less_like_themselves(
    recognizer: Recognizer, wearers: Wearers, architecture: Any
) -> None:
    rate = 0.5 if architecture == "pixels" else CONFIG.max_lr
    config = replace(CONFIG, generator=architecture, max_lr=rate)

    run = train_masks(wearers, [recognizer], config)

    assert len(run.history) == 15
    assert run.history[-1].similarity < run.history[0].similarity - 0.02
    assert run.seconds > 0


def test_every_recognizer_of_an_ensemble_is_moved_away_from(
    recognizer: Recognizer, another: Recognizer, wearers: Wearers
) -> None:
    both = [recognizer, another]

    run = train_masks(wearers, both, replace(CONFIG, epochs=25))

    with torch.no_grad():
        designs = run.generator(latents(6, torch.Generator().manual_seed(0)))
        before = build_generator("convolutional", seed=0)(latents(6, torch.Generator()))
        for one in both:
            known = gallery(wearers, one)[wearers.people]
            similar = [
                float((one.of_frames(put_on(faces, worn, wearers.fits)) * known).sum(1).mean())
                for faces in [wearers.faces(range(18), 112)]
                for worn in (before.repeat(3, 1, 1, 1), designs.repeat(3, 1, 1, 1))
            ]
            assert similar[1] < similar[0] - 0.02


def test_people_are_embedded_once_however_long_it_trains(
    recognizer: Recognizer, wearers: Wearers
) -> None:
    calls = 0

    def count(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        nonlocal calls
        calls += 1

    recognizer.register_forward_pre_hook(count)
    counts = []
    for epochs in (1, 4):
        calls = 0
        train_masks(wearers, [recognizer], replace(CONFIG, epochs=epochs))
        counts.append(calls)

    assert counts[0] == 2, "the gallery, and one batch of six people"
    assert counts[1] - counts[0] == 3


def test_a_discriminator_pays_for_its_weights(
    recognizer: Recognizer, wearers: Wearers, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(CONFIG, experiment="0", epochs=1)
    losses = []
    for weight in (training.L1, 0.0):
        monkeypatch.setattr(training, "L1", weight)
        losses.append(train_masks(wearers, [recognizer], config).history[0].discriminator_loss)

    start = gallery(wearers, recognizer)
    assert losses[0] - losses[1] == pytest.approx(0.01 * float(start.abs().mean()), rel=1e-2)  # type: ignore[operator]


@pytest.mark.parametrize("experiment", ["0", "1", "2", "3"])
def test_the_papers_experiments_play_both_sides(
    recognizer: Recognizer, wearers: Wearers, experiment: Any
) -> None:
    run = train_masks(wearers, [recognizer], replace(CONFIG, experiment=experiment, epochs=4))

    losses = [epoch.discriminator_loss for epoch in run.history]
    assert all(loss is not None for loss in losses)
    still = experiment == "0"
    moving = [loss for loss in losses if loss]
    assert len(moving) == (1 if still else 4), "0 learns from the bare faces and stands still"
    assert still or moving[-1] > moving[0], "the generator makes its task harder"


def test_a_discriminator_names_those_whom_it_was_shown(
    recognizer: Recognizer, wearers: Wearers
) -> None:
    config = replace(CONFIG, experiment="2", epochs=30, max_lr=1e-5)
    run = train_masks(wearers, [recognizer], config)
    (head,) = run.heads
    blue = plain((0.35, 0.6, 0.85))

    bare, masked = (named_right(wearers, recognizer, head, worn) for worn in (None, blue))

    assert (bare.total, masked.total) == (18, 18)
    assert bare.value > 0.8
    swapped = Wearers(wearers.frames, wearers.fits, (wearers.people + 1) % 6, wearers.names)
    assert named_right(swapped, recognizer, head, None).value < 0.2, "names are not off by one"
    with torch.no_grad():
        faces = put_on(wearers.faces(range(18), 112), blue.expand(18, -1, -1, -1), wearers.fits)
        logits = head(recognizer.of_frames(faces))
    assert masked.successes == int((logits.argmax(1) == wearers.people).sum())
    assert train_masks(wearers, [recognizer], replace(CONFIG, epochs=1)).heads == []


@pytest.mark.parametrize(
    ("experiment", "conditional"), [("free", False), ("3", False), ("1", True)]
)
def test_a_run_that_goes_on_ends_like_an_unbroken_one(
    recognizer: Recognizer, wearers: Wearers, experiment: Any, conditional: bool
) -> None:
    config = replace(CONFIG, experiment=experiment, conditional=conditional, epochs=6)
    states: list[Any] = []
    whole = train_masks(wearers, [recognizer], config, save=lambda s: states.append(_copied(s)))

    again = train_masks(wearers, [recognizer], config, resume=states[2])

    assert all(torch.equal(weights(whole)[n], w) for n, w in weights(again).items())
    assert [vars(one) for one in whole.history] == [vars(one) for one in again.history]


def _copied(state: Any) -> Any:
    if isinstance(state, torch.Tensor):
        return state.clone()
    if isinstance(state, dict):
        return {key: _copied(value) for key, value in state.items()}
    return [_copied(part) for part in state] if isinstance(state, list) else state


def test_people_are_labeled_by_name_whatever_the_order(recognizer: Recognizer) -> None:
    rng = np.random.default_rng(1)
    photos = [
        (name, rng.integers(0, 256, (160, 160, 3), dtype=np.uint8), FRAME_POINTS)
        for name in ("zoe", "adam", "mia", "adam", "zoe")
    ]

    found, shuffled = gather(photos), gather([photos[n] for n in (3, 0, 2, 4, 1)])

    assert found.names == shuffled.names == ("adam", "mia", "zoe")
    assert found.people.tolist() == [2, 0, 1, 0, 2]
    assert torch.allclose(gallery(found, recognizer), gallery(shuffled, recognizer), atol=1e-5)


def test_a_memory_map_is_read_a_batch_at_a_time(
    recognizer: Recognizer, wearers: Wearers, tmp_path: Any
) -> None:
    path = tmp_path / "frames.npy"
    np.save(path, wearers.frames)
    mapped = Wearers(np.load(path, mmap_mode="r"), wearers.fits, wearers.people, wearers.names)
    config = replace(CONFIG, epochs=2)

    from_disk, from_memory = (train_masks(one, [recognizer], config) for one in (mapped, wearers))

    assert isinstance(mapped.frames, np.memmap)
    assert all(torch.equal(weights(from_disk)[n], w) for n, w in weights(from_memory).items())


def test_diversity_keeps_designs_apart(recognizer: Recognizer, wearers: Wearers) -> None:
    alike = [
        train_masks(wearers, [recognizer], replace(CONFIG, generator="dense", diversity=weight))
        .history[-1]
        .likeness
        for weight in (0.0, 5.0)
    ]

    assert alike[1] < alike[0]


def test_a_conditional_generator_draws_another_design_for_each_wearer(
    recognizer: Recognizer, wearers: Wearers
) -> None:
    config = replace(CONFIG, generator="dense", conditional=True, epochs=25)

    run = train_masks(wearers, [recognizer], config)

    assert run.history[-1].similarity < run.history[0].similarity - 0.02
    own = gallery(wearers, recognizer)
    same = latents(1, torch.Generator().manual_seed(0)).expand(len(own), -1)
    with torch.no_grad():
        designs = run.generator(conditioned(same, own))
    apart = torch.pdist(designs.flatten(1), p=1) / designs[0].numel()
    assert float(apart.min()) > 1e-3, "same latent vector, other wearers"


def test_embeddings_weigh_as_much_as_latent_vectors() -> None:
    embeddings = torch.nn.functional.normalize(torch.randn(50, 128))

    joined = conditioned(torch.randn(50, 100), embeddings)

    assert joined.shape == (50, 228)
    assert float(joined[:, 100:].std()) == pytest.approx(1, abs=0.05)
    with pytest.raises(ValueError, match="wearer"):
        build_generator("pixels", seed=0, condition=128)


def test_few_designs_a_step_are_worn_by_all(recognizer: Recognizer, wearers: Wearers) -> None:
    drawn: list[int] = []

    def count(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        drawn.append(len(inputs[0]))

    handle = torch.nn.modules.module.register_module_forward_pre_hook(
        lambda module, inputs: (
            count(module, inputs) if isinstance(module, ConvolutionalGenerator) else None
        )
    )
    try:
        run = train_masks(wearers, [recognizer], replace(CONFIG, drawn=2))
        train_masks(wearers, [recognizer], replace(CONFIG, drawn=2, conditional=True, epochs=1))
    finally:
        handle.remove()

    assert drawn == [2] * 15 + [6], "and one for each of six wearers under a condition"
    assert run.history[-1].similarity < run.history[0].similarity - 0.02


def test_a_cancel_ends_it_and_nobody_is_refused(recognizer: Recognizer, wearers: Wearers) -> None:
    class StopError(Exception):
        pass

    def stop() -> None:
        raise StopError

    with pytest.raises(StopError):
        train_masks(wearers, [recognizer], CONFIG, check_cancel=stop)
    with pytest.raises(ValueError, match="recognizer"):
        train_masks(wearers, [], CONFIG)
    alone = wearers.of([0, 1, 2])
    one = replace(alone, names=alone.names[:1])
    with pytest.raises(ValueError, match="at least two"):
        train_masks(one, [recognizer], replace(CONFIG, experiment="1"))
    with pytest.raises(ValueError, match="no face"):
        gather([])


@pytest.mark.parametrize("field", ["epochs", "batch_size", "max_lr", "drawn", "variation"])
def test_settings_out_of_range_are_refused(field: str) -> None:
    with pytest.raises(ValueError, match=field if field != "variation" else "weights"):
        replace(CONFIG, **{field: -1})


def test_trained_designs_hide_better_than_plain_ones(
    recognizer: Recognizer, wearers: Wearers
) -> None:
    run = train_masks(wearers, [recognizer], replace(CONFIG, epochs=40))
    with torch.no_grad():
        designs = run.generator(latents(4, torch.Generator().manual_seed(0)))
    judge = MaskJudge.__new__(MaskJudge)
    with pytest.raises(ValueError, match="cannot show"):
        MaskJudge(recognizer, wearers)  # twelve probes and six people: 60 impostor scores
    del judge

    many = Wearers(
        np.tile(wearers.frames, (4, 1, 1, 1)),
        wearers.fits.repeat(4, 1, 1),
        wearers.people.repeat(4),
        wearers.names,
    )
    judge = MaskJudge(recognizer, many)
    plain_blue, ours, busy = (
        judge.wearing(one) for one in (plain((0.35, 0.6, 0.85)), designs, random_pattern(1))
    )
    assert judge.bare.rank_1.value > 0.9
    assert ours.similarity < plain_blue.similarity
    assert ours.similarity < busy.similarity


def test_people_are_chosen_and_judged_without_holding_their_faces(
    recognizer: Recognizer, tmp_path: Path
) -> None:
    people, photos = 80, 4
    path = tmp_path / "frames.npy"
    shape = (people * photos, 160, 160, 3)
    written = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    rng = np.random.default_rng(0)
    for number in range(people * photos):
        written[number] = rng.integers(0, 256, shape[1:], dtype=np.uint8)
    points = FRAME_POINTS + rng.normal(0, 1, (people * photos, 5, 2))
    names = tuple(f"{number:02d}" for number in range(people))
    numbers = torch.arange(people).repeat_interleave(photos)
    mapped = Wearers(np.load(path, mmap_mode="r"), fit(points), numbers, names)
    alive: list[weakref.ref[torch.Tensor]] = []
    most = 0

    def count(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        nonlocal most
        alive.append(weakref.ref(inputs[0]))
        most = max(most, sum(one() is not None for one in alive))

    tracemalloc.start()
    try:
        some = mapped.of(range(8, 308)).renumbered()
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    recognizer.register_forward_pre_hook(count)
    MaskJudge(recognizer, some).wearing(random_pattern(0))

    assert held < 2**20, "their faces are 23 MB"
    assert torch.equal(some.faces([5, 299]), mapped.faces([13, 307]))
    assert len(alive) == 2 * 5 + 2, "the gallery once, the probes bare and masked"
    assert most <= 2, "batches go as they came"


def test_people_are_enrolled_by_several_photos_and_one_is_left_to_probe(
    recognizer: Recognizer, wearers: Wearers
) -> None:
    alone = wearers.of(range(1, 18))  # two photos of the first person, three of each other
    for enrolled, known in ((1, 6), (2, 11), (9, 11)):
        sides = judged_sides(alone, enrolled=enrolled)
        assert len(sides.gallery) == known
        assert sorted([*sides.gallery, *sides.probes]) == list(range(17))
        assert set(alone.people[sides.probes].tolist()) == set(range(6))
    many = Wearers(
        np.tile(wearers.frames, (4, 1, 1, 1)),
        wearers.fits.repeat(4, 1, 1),
        wearers.people.repeat(4),
        wearers.names,
    )
    judge = MaskJudge(recognizer, many, enrolled=3)
    mean = gallery(wearers, recognizer)
    assert np.allclose(judge.gallery, mean.numpy(), atol=1e-5)
    found = judge.wearing(plain((0.35, 0.6, 0.85)))
    rates = [found.among(size) for size in (1, 2, 6, 20)]
    assert [rate.value for rate in rates[:1]] == [1.0], "nobody to be confused with"
    assert rates[0].value >= rates[1].value >= rates[2].value
    assert rates[2].value == rates[3].value == pytest.approx(found.rank_1.value)
    assert rates[2].low <= rates[2].value <= rates[2].high


def test_bfloat16_makes_nearly_the_same_designs(recognizer: Recognizer, wearers: Wearers) -> None:
    runs = [
        train_masks(wearers, [recognizer], replace(CONFIG, experiment=experiment, bf16=bf16))
        for experiment in ("free", "2")
        for bf16 in (False, True)
    ]
    for exact, fast in (runs[:2], runs[2:]):
        first, last = (
            [run.history[place].similarity for run in (exact, fast)] for place in (0, -1)
        )
        assert first[0] == pytest.approx(first[1], abs=0.01)
        assert last[0] == pytest.approx(last[1], abs=0.05)
        assert max(last) < min(first) - 0.02
        assert all(weight.dtype == torch.float32 for weight in weights(fast).values())
