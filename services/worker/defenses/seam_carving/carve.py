"""Content-aware resizing of batches: the public face of seam carving.

Avidan and Shamir, "Seam Carving for Content-Aware Image Resizing", SIGGRAPH 2007; forward energy:
Rubinstein, Shamir and Avidan, "Improved Seam Carving for Video Retargeting", SIGGRAPH 2008.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from services.worker.defenses.seam_carving.energies import COUNT_GAINS, WINDOW_TERMS
from services.worker.defenses.seam_carving.finding import find_seams
from services.worker.defenses.seam_carving.following import add_leaders
from services.worker.defenses.seam_carving.kernels import insert_seams, mark_seams, remove_seams
from services.worker.defenses.seam_carving.layout import (
    ENTROPY,
    FORWARD,
    GRADIENT,
    HIGHEST_WEIGHT,
)
from services.worker.stopping import CancelCheck

Energy = Literal["gradient", "entropy", "forward"]
Order = Literal["width_first", "height_first"]

LARGEST_SIDE = 8192
LARGEST_GROWTH = 4
_MODES = {"gradient": GRADIENT, "entropy": ENTROPY, "forward": FORWARD}
_LUMA = np.array([0.2125, 0.7154, 0.0721], dtype=np.float32)  # as scikit-image's rgb2gray
_PIXELS_A_CHUNK = 1 << 18  # about 30 ms of work between two looks at the cancel check
_PIXELS_LED = 1 << 20  # by entropy, about 300 ms: a leader is worth it for many images only
_CHUNKS_A_THREAD = 8  # so that a thread that is held up leaves its share to the others


@dataclass(frozen=True)
class Carved:
    """Resized images and where their pixels came from.

    images: uint8 ``(N, height, width, 3)`` or ``(N, height, width)``.
    sources: int32 ``(N, height, width)``, the flat index of the input pixel that each output pixel
        is, or, if inserted, was inserted before.
    seams: int32 ``(N, H, W)`` at the input's size: ``i`` where the i-th vertical seam ran, ``-i``
        where the i-th horizontal one did, 0 elsewhere.
    """

    images: NDArray[np.uint8]
    sources: NDArray[np.int32]
    seams: NDArray[np.int32]


@dataclass(frozen=True)
class _State:
    images: NDArray[np.uint8]  # (N, H, W, C)
    weights: NDArray[np.uint16]  # (N, H, W), or (0, H, W) without weights
    sources: NDArray[np.int32]  # (N, H, W)
    marks: NDArray[np.int32]  # (N, pixels of the input)
    leaders: NDArray[np.int32]  # (N,), see ``find_seams``


def carve(
    images: NDArray[np.uint8],
    *,
    height: int,
    width: int,
    energy: Energy = "gradient",
    order: Order = "width_first",
    weights: ArrayLike | None = None,
    threads: int = 1,
    check_cancel: CancelCheck | None = None,
) -> Carved:
    """Resize images to ``height`` x ``width`` by removing and inserting seams.

    ``images`` is uint8, ``(N, H, W, 3)`` RGB or ``(N, H, W)`` gray. ``weights``, ``(H, W)`` or
    ``(N, H, W)``, whole numbers from 0 to 32767, are added to the energy of each pixel and travel
    with it (see ``protect``).

    Energies: ``gradient``, |Sobel x| + |Sobel y| of the gray image, 0 to 2040; ``entropy``, the
    local Shannon entropy in a 9x9 window cut at the border, in 1/4096 bit; ``forward``, the edges
    that a removal creates. Ties go to the leftmost (topmost) seam end and there to the leftmost
    predecessor. Seams to insert are found in steps of at most half the side, so that one seam is
    not stretched alone; a new pixel is the mean of its neighbors, rounded down.

    A side that keeps its length is not touched. Images are spread over ``threads``.
    Raises ``ValueError`` for a size, weight map, energy or order that cannot be used.
    """
    color = _check_images(images)
    _check_target(color.shape[1:3], height, width)
    check_choices(energy, order, threads)
    extra = _check_weights(weights, color.shape[:3])

    def work(first: int, last: int) -> Carved:
        if check_cancel is not None:
            check_cancel()
        return _carve_chunk(
            color[first:last],
            extra[first:last],
            height=height,
            width=width,
            mode=_MODES[energy],
            order=order,
        )

    count = len(color)
    step = _chunk(count, color.shape[1] * color.shape[2], energy, threads)
    starts = range(0, count, step)
    if threads == 1 or len(starts) == 1:
        parts = [work(start, start + step) for start in starts]
    else:
        with ThreadPoolExecutor(threads) as pool:
            parts = list(pool.map(lambda start: work(start, start + step), starts))
    carved = parts[0] if len(parts) == 1 else _join(parts)
    return carved if images.ndim == 4 else replace(carved, images=carved.images[..., 0])


def _chunk(count: int, pixels: int, energy: Energy, threads: int) -> int:
    """Return how many images of so many ``pixels`` each are carved at once."""
    if energy == "entropy":
        return max(1, min(-(-count // threads), _PIXELS_LED // pixels))
    shares = threads * _CHUNKS_A_THREAD if threads > 1 else 1
    return max(1, min(-(-count // shares), _PIXELS_A_CHUNK // pixels))


def _carve_chunk(
    color: NDArray[np.uint8],
    weights: NDArray[np.uint16],
    *,
    height: int,
    width: int,
    mode: int,
    order: Order,
) -> Carved:
    asked, rows, columns = color.shape[:3]
    leaders = np.full(asked, -1, dtype=np.int32)
    if mode == ENTROPY and len(weights) == 0:
        color, leaders = add_leaders(color)
    count = len(color)
    pixels = np.arange(rows * columns, dtype=np.int32).reshape(1, rows, columns)
    state = _State(
        images=color,
        weights=weights,
        sources=np.repeat(pixels, count, axis=0),
        marks=np.zeros((count, rows * columns), dtype=np.int32),
        leaders=leaders,
    )
    if order == "width_first":
        state = _resize_width(state, width, mode, sign=1)
        state = _turn(_resize_width(_turn(state), height, mode, sign=-1))
    else:
        state = _turn(_resize_width(_turn(state), height, mode, sign=-1))
        state = _resize_width(state, width, mode, sign=1)
    return Carved(
        images=np.ascontiguousarray(state.images[:asked]),
        sources=np.ascontiguousarray(state.sources[:asked]),
        seams=state.marks[:asked].reshape(asked, rows, columns),
    )


def _resize_width(state: _State, width: int, mode: int, *, sign: int) -> _State:
    done = 0
    while (columns := state.images.shape[2]) != width:
        if columns > width:
            count, apply, change = columns - width, remove_seams, width - columns
        else:
            count = min(width - columns, max(1, round(0.5 * columns)))
            apply, change = insert_seams, count
        images = np.ascontiguousarray(state.images)
        weights = np.ascontiguousarray(state.weights)
        sources = np.ascontiguousarray(state.sources)
        number, rows, _, channels = images.shape
        seams = np.empty((number, count, rows), dtype=np.int32)
        # The gray of the strided array: BLAS may round the last bit otherwise.
        gray = np.ascontiguousarray(_to_gray(state.images))
        weighted = len(weights) > 0
        find_seams(gray, weights, state.leaders, mode, seams, COUNT_GAINS, WINDOW_TERMS)
        mark_seams(sources, seams, done + 1, sign, state.marks)
        shape = (number, rows, columns + change)
        state = _State(
            images=np.empty((*shape, channels), dtype=np.uint8),
            weights=np.empty(shape if weighted else (0, *shape[1:]), dtype=np.uint16),
            sources=np.empty(shape, dtype=np.int32),
            marks=state.marks,
            leaders=state.leaders,
        )
        apply(images, weights, sources, seams, state.images, state.weights, state.sources)
        done += count
    return state


def _turn(state: _State) -> _State:
    """Swap rows and columns, as views."""
    return _State(
        images=state.images.transpose(0, 2, 1, 3),
        weights=state.weights.transpose(0, 2, 1),
        sources=state.sources.transpose(0, 2, 1),
        marks=state.marks,
        leaders=state.leaders,
    )


def _to_gray(color: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if color.shape[3] == 1:
        return color[..., 0]
    gray: NDArray[np.uint8] = (color @ _LUMA).astype(np.uint8)
    return gray


def _join(parts: list[Carved]) -> Carved:
    return Carved(
        images=np.concatenate([part.images for part in parts]),
        sources=np.concatenate([part.sources for part in parts]),
        seams=np.concatenate([part.seams for part in parts]),
    )


def check_choices(energy: str, order: str, threads: int) -> None:
    """Raise ``ValueError`` for an energy, order or number of threads that does not exist."""
    if energy not in get_args(Energy):
        raise ValueError(f"unknown energy {energy!r}: use one of {get_args(Energy)}")
    if order not in get_args(Order):
        raise ValueError(f"unknown order {order!r}: use one of {get_args(Order)}")
    if threads < 1:
        raise ValueError("carving needs at least one thread")


def _check_images(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if images.dtype != np.uint8:
        raise ValueError(f"seam carving takes 8-bit images, not {images.dtype}")
    gray = images.ndim == 3
    if not gray and (images.ndim != 4 or images.shape[3] != 3):
        raise ValueError(f"seam carving takes images (N, H, W, 3) or (N, H, W), not {images.shape}")
    if 0 in images.shape:
        raise ValueError(f"there is nothing to carve in images of shape {images.shape}")
    return images[..., None] if gray else images


def _check_target(size: tuple[int, ...], height: int, width: int) -> None:
    for name, now, target in (("height", size[0], height), ("width", size[1], width)):
        if now > LARGEST_SIDE:
            raise ValueError(f"the {name} of {now} is above the largest side, {LARGEST_SIDE}")
        if target < 1:
            raise ValueError(
                f"a {name} of {target} would take {now - target} seams out of {now} pixels: "
                "at least one pixel must stay"
            )
        if target > min(LARGEST_SIDE, LARGEST_GROWTH * now):
            raise ValueError(
                f"the target {name} of {target} is too large: seam carving grows {now} pixels to "
                f"at most {min(LARGEST_SIDE, LARGEST_GROWTH * now)}"
            )


def _check_weights(weights: ArrayLike | None, shape: tuple[int, ...]) -> NDArray[np.uint16]:
    if weights is None:
        return np.empty((0, *shape[1:]), dtype=np.uint16)
    given = np.asarray(weights)
    if given.shape not in (shape, shape[1:]):
        raise ValueError(f"a weight map of shape {given.shape} does not fit images {shape}")
    whole = np.rint(given) if given.dtype.kind == "f" else given
    if not np.array_equal(whole, given) or given.min() < 0 or given.max() > HIGHEST_WEIGHT:
        raise ValueError(f"weights must be whole numbers from 0 to {HIGHEST_WEIGHT}")
    return np.ascontiguousarray(np.broadcast_to(given, shape).astype(np.uint16))
