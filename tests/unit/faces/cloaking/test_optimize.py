"""The search for a cloak, on recognizers small enough to follow."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from services.worker.faces.cloaking.config import PRESETS, CloakConfig
from services.worker.faces.cloaking.optimize import Cloak, Subject, cloak_faces, synthetic_identity
from services.worker.faces.cloaking.visibility import feather, likeness, visibility
from services.worker.models.recognizers import Recognizer

CONFIG = CloakConfig(eps=10, steps=25)
Make = Callable[..., Recognizer]


def similarity(recognizer: Recognizer, frame: Tensor, change: Tensor) -> float:
    with torch.no_grad():
        first, second = recognizer.of_frames(
            torch.stack([frame, (frame + change / 255).clamp(0, 1)])
        )
    return float(first @ second)


def subjects(frames: Tensor, **fields: object) -> list[Subject]:
    return [Subject(frame, 1.0, seed=7 + i, **fields) for i, frame in enumerate(frames)]  # type: ignore[arg-type]


def test_every_face_moves_away_from_itself(trained: Recognizer, frames: Tensor) -> None:
    cloaks = cloak_faces(subjects(frames), [trained], CONFIG)

    for frame, cloak in zip(frames, cloaks, strict=True):
        noise = 10 * (2 * torch.rand(frame.shape) - 1) * feather()[0]
        assert similarity(trained, frame, cloak.change) < 0.4
        assert similarity(trained, frame, noise) > 0.6
        assert cloak.steps == 25


def test_no_change_exceeds_eps_or_leaves_the_face(recognizer_of: Make, frames: Tensor) -> None:
    for cloak in cloak_faces(subjects(frames), [recognizer_of()], CONFIG):
        assert float(cloak.change.abs().max()) <= 10 + 1e-4
        assert not cloak.change[:, :10].any()
        assert not cloak.change[:, :, -10:].any()


def test_a_cloak_does_not_depend_on_who_else_is_there(recognizer_of: Make, frames: Tensor) -> None:
    recognizer = recognizer_of()
    everyone = subjects(frames)

    together = cloak_faces(everyone, [recognizer], replace(CONFIG, steps=6))
    alone = cloak_faces(everyone[1:2], [recognizer], replace(CONFIG, steps=6))

    # Sums in another order flip the sign of a gradient that is next to nothing, here and there.
    apart = (together[1].change - alone[0].change).abs() > 0.5
    assert float(apart.float().mean()) < 0.02


def test_same_seed_same_cloak_and_another_seed_another(recognizer_of: Make, frames: Tensor) -> None:
    recognizer = recognizer_of()
    first, again = (
        cloak_faces(subjects(frames[:1]), [recognizer], replace(CONFIG, steps=5)) for _ in range(2)
    )
    other = cloak_faces([Subject(frames[0], 1.0, seed=1)], [recognizer], replace(CONFIG, steps=5))

    assert torch.equal(first[0].change, again[0].change)
    assert not torch.equal(first[0].change, other[0].change)


def test_an_ensemble_moves_away_in_each(
    trained: Recognizer, recognizer_of: Make, frames: Tensor
) -> None:
    tiny = recognizer_of(1)

    (alone,) = cloak_faces(subjects(frames[:1]), [trained], CONFIG)
    (cloak,) = cloak_faces(subjects(frames[:1]), [trained, tiny], CONFIG)

    assert similarity(trained, frames[0], cloak.change) < 0.5
    assert similarity(tiny, frames[0], cloak.change) < similarity(tiny, frames[0], alone.change)


def test_a_likeness_that_is_asked_for_is_kept(trained: Recognizer, frames: Tensor) -> None:
    free = replace(CONFIG, eps=40)

    def alike(cloak: Cloak, frame: Tensor) -> float:
        pair = torch.stack([frame, (frame + cloak.change / 255).clamp(0, 1)])[..., 24:-24, 24:-24]
        return float(likeness(pair[:1], pair[1:]))

    for frame, spoiled, kept in zip(
        frames,
        cloak_faces(subjects(frames), [trained], free),
        cloak_faces(subjects(frames), [trained], replace(free, likeness=0.9)),
        strict=True,
    ):
        assert alike(spoiled, frame) < 0.85
        assert alike(kept, frame) > 0.87
        assert similarity(trained, frame, kept.change) < 0.6


def test_a_small_photo_is_looked_at_in_its_own_pixels(trained: Recognizer, frames: Tensor) -> None:
    config = replace(CONFIG, eps=40, likeness=0.9)
    small = Subject(frames[0], 0.4, seed=7)

    (cloak,) = cloak_faces([small], [trained], config)

    pair = torch.stack([frames[0], (frames[0] + cloak.change / 255).clamp(0, 1)])
    seen = torch.nn.functional.interpolate(
        pair[..., 24:-24, 24:-24], (45, 45), mode="bilinear", antialias=True
    )
    assert float(likeness(seen[:1], seen[1:])) > 0.87


def test_without_color_only_brightness_changes(recognizer_of: Make, frames: Tensor) -> None:
    recognizer = recognizer_of()

    def tint(color: float) -> float:
        (cloak,) = cloak_faces(
            subjects(frames[:1]), [recognizer], replace(CONFIG, steps=10, color=color)
        )
        assert float(cloak.change.abs().max()) <= 10 + 1e-4
        return float((cloak.change - cloak.change.mean(0)).abs().mean())

    assert tint(0.0) < 1e-5
    assert 0.1 < tint(0.3) < 0.6 * tint(1.0)


def test_a_softened_gradient_finds_another_cloak(trained: Recognizer, frames: Tensor) -> None:
    before = list(trained.state_dict())

    whole, soft = (
        cloak_faces(subjects(frames[:1]), [trained], replace(CONFIG, steps=3, branches=share))
        for share in (1.0, 0.5)
    )

    assert not torch.equal(whole[0].change, soft[0].change)
    assert list(trained.state_dict()) == before, "the caller's network stays as it was"


def test_a_target_is_moved_towards(trained: Recognizer, frames: Tensor) -> None:
    recognizer = trained
    with torch.no_grad():
        target = recognizer.of_frames(frames[2:])[0]
        before = float(recognizer.of_frames(frames[:1])[0] @ target)
    (cloak,) = cloak_faces(subjects(frames[:1], targets=(target,)), [recognizer], CONFIG)

    with torch.no_grad():
        after = recognizer.of_frames((frames[:1] + cloak.change / 255).clamp(0, 1))[0]
    assert float(after @ target) > before + 0.2


def test_gray_stays_gray_and_small_faces_get_coarse_changes(
    recognizer_of: Make, frames: Tensor
) -> None:
    gray = Subject(frames[0], 0.3, seed=1, gray=True)

    (cloak,) = cloak_faces([gray], [recognizer_of()], replace(CONFIG, steps=5))

    assert torch.equal(cloak.change[0], cloak.change[1])
    assert torch.equal(cloak.change[0], cloak.change[2])
    limit = visibility(frames[:1], CONFIG.perceptual)[0, 0]
    shape = (cloak.change[0] / (10 * limit.clamp(min=0.05)))[40:120, 40:120]
    # The photo has .3 pixels for one of the frame, and a cell is two of the photo's.
    assert float((shape[:, 1:] - shape[:, :-1]).abs().max()) < 2 / (2 / 0.3) + 0.05


def test_a_search_ends_at_the_margin(trained: Recognizer, frames: Tensor) -> None:
    config = replace(CONFIG, steps=100, stop_below=0.6)

    cloaks = cloak_faces(subjects(frames), [trained], config)

    assert all(cloak.steps < 100 for cloak in cloaks)
    assert all(cloak.similarity < 0.6 for cloak in cloaks)


def test_progress_is_told_and_a_cancel_ends_it(recognizer_of: Make, frames: Tensor) -> None:
    told: list[tuple[int, int]] = []

    class StopError(Exception):
        pass

    def check() -> None:
        if len(told) == 3:
            raise StopError

    with pytest.raises(StopError):
        cloak_faces(
            subjects(frames),
            [recognizer_of()],
            CONFIG,
            progress=lambda step, steps, _: told.append((step, steps)),
            check_cancel=check,
        )
    assert told == [(1, 25), (2, 25), (3, 25)]


def test_statistics_move_a_face_away_from_all_faces(recognizer_of: Make, frames: Tensor) -> None:
    recognizer = recognizer_of()
    generator = torch.Generator().manual_seed(0)
    crowd = torch.randn(300, 16, generator=generator) * 0.05 + recognizer.of_frames(frames).mean(0)
    recognizer.remember(torch.nn.functional.normalize(crowd))

    def distance(config: CloakConfig) -> float:
        (cloak,) = cloak_faces(subjects(frames[:1]), [recognizer], config)
        with torch.no_grad():
            after = recognizer.of_frames((frames[:1] + cloak.change / 255).clamp(0, 1))
        return float((after - recognizer.face_mean).norm())

    plain = replace(CONFIG, eps=3.0, steps=15)
    assert distance(replace(plain, statistics=5.0)) > 0.95 * distance(plain)


def test_synthetic_people_are_like_people_and_not_alike(recognizer_of: Make) -> None:
    recognizer = recognizer_of()
    with pytest.raises(ValueError, match="statistics"):
        synthetic_identity(recognizer, 1)
    crowd = torch.nn.functional.normalize(torch.randn(500, 16) + torch.arange(16) / 4)
    recognizer.remember(crowd)

    drawn = torch.stack([synthetic_identity(recognizer, seed) for seed in range(400)])

    assert torch.allclose(drawn.norm(dim=1), torch.ones(400), atol=1e-5)
    assert torch.allclose(drawn.mean(0), crowd.mean(0), atol=0.08)
    assert torch.equal(drawn[3], synthetic_identity(recognizer, 3))
    assert float((drawn @ drawn.T).triu(1).max()) < 0.999


@pytest.mark.parametrize(
    "field",
    [
        "eps",
        "steps",
        "samples",
        "cell",
        "momentum",
        "smooth",
        "strength",
        "statistics",
        "likeness",
        "branches",
    ],
)
def test_settings_out_of_range_are_refused_by_name(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        replace(CONFIG, **{field: -1})


def test_presets_grow_and_nobody_is_cloaked_from_nothing(frames: Tensor) -> None:
    assert PRESETS["low"].eps < PRESETS["medium"].eps < PRESETS["high"].eps
    with pytest.raises(ValueError, match="at least one recognizer"):
        cloak_faces(subjects(frames), [], CONFIG)


def test_skin_is_spared_and_texture_is_not() -> None:
    frame = torch.full((1, 3, 160, 160), 0.5)
    frame[..., 80:] = torch.rand(160, 80, generator=torch.Generator().manual_seed(0))

    limits = visibility(frame, 0.6)[0, 0]

    assert float(limits[80, 50]) == pytest.approx(0.4, abs=0.01)
    assert float(limits[80, 110]) > 0.9
    assert torch.equal(visibility(frame, 0.0), feather())


def test_likeness_is_nearly_the_structural_similarity(frames: Tensor) -> None:
    generator = torch.Generator().manual_seed(0)
    for amount in (0.0, 0.03, 0.1):
        noise = amount * (2 * torch.rand(frames.shape, generator=generator) - 1)
        changed = (frames + noise).clamp(0, 1)
        found = likeness(frames, changed)
        for value, first, second in zip(found, frames, changed, strict=True):
            expected = structural_similarity(
                first.numpy(), second.numpy(), data_range=1.0, channel_axis=0, gaussian_weights=True
            )
            assert float(value) == pytest.approx(expected, abs=0.05)
