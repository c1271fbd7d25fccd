"""Reads how a JPEG's pixels are arranged: components, tables, sampling, scans (ITU-T T.81)."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from shared.images.jpeg import DQT, DRI, FRAMES, SOS, Segment, walk
from shared.images.limits import corrupt

_PROGRESSIVE = 0xC2
_JFIF, _ADOBE = 0xE0, 0xEE
_RGB_IDS = (82, 71, 66)
_COEFFICIENTS = 64
# The order in which tables and coefficients are sent: row and column by column of a block.
ZIGZAG = tuple(
    row * 8 + column
    for total in range(15)
    for row, column in (
        (at, total - at) if total % 2 else (total - at, at)
        for at in range(max(0, total - 7), min(total, 7) + 1)
    )
)


@dataclass(frozen=True)
class Component:
    """A color component: sampling factors and its quantization table in natural order."""

    horizontal: int
    vertical: int
    table: tuple[int, ...] | None


@dataclass(frozen=True)
class JpegFrame:
    """How the pixels are arranged.

    ``is_rgb``: three components that are red, green and blue. ``unsent`` is the share, 0 to 1, of
    coefficients whose last bit no scan has; ``restart_interval`` is in MCUs, 0: none.
    """

    progressive: bool
    precision: int
    width: int
    height: int
    components: tuple[Component, ...]
    is_rgb: bool
    restart_interval: int
    scans: int
    unsent: float

    @property
    def mcu(self) -> tuple[int, int]:
        """Width and height of an interleaved unit in blocks of 8 x 8 pixels."""
        return (
            max(one.horizontal for one in self.components),
            max(one.vertical for one in self.components),
        )


def read_frame(data: bytes) -> JpegFrame:
    """Read the arrangement of a JPEG's pixels; raises ``ImageRejectedError``."""
    segments = walk(data).segments
    frame = next((one for one in segments if one.marker in FRAMES), None)
    if frame is None or len(frame.body) < 6:
        raise corrupt("it has no frame")
    precision, height, width, count = struct.unpack_from(">BHHB", frame.body)
    if not 1 <= count <= 4 or len(frame.body) < 6 + 3 * count:
        raise corrupt("its frame is wrong")
    rows = [frame.body[6 + 3 * at : 9 + 3 * at] for at in range(count)]
    ids = [row[0] for row in rows]
    factors = [(row[1] >> 4, row[1] & 15) for row in rows]
    if not all(1 <= factor <= 4 for pair in factors for factor in pair):
        raise corrupt("its sampling factors are wrong")
    tables, restart, scans, unsent = _scanned(segments, ids, [row[2] for row in rows])
    return JpegFrame(
        progressive=frame.marker == _PROGRESSIVE,
        precision=precision,
        width=width,
        height=height,
        components=tuple(
            Component(*pair, table) for pair, table in zip(factors, tables, strict=True)
        ),
        is_rgb=_is_rgb(segments, ids),
        restart_interval=restart,
        scans=scans,
        unsent=unsent,
    )


def _scanned(
    segments: Sequence[Segment], ids: list[int], table_numbers: list[int]
) -> tuple[list[tuple[int, ...] | None], int, int, float]:
    """Return each component's table, the restart interval, the scans and the share not sent.

    A component's table is the one that its number means when its first scan begins.
    """
    defined: dict[int, tuple[int, ...]] = {}
    tables: list[tuple[int, ...] | None] = [None] * len(ids)
    missing = [[1.0] * _COEFFICIENTS for _ in ids]
    interval, restart, scans = 0, 0, 0
    for segment in segments:
        if segment.marker == DQT:
            defined |= _tables(segment.body)
        elif segment.marker == DRI and len(segment.body) >= 2:
            interval = int.from_bytes(segment.body[:2], "big")
        elif segment.marker == SOS:
            restart = interval if scans == 0 else restart
            scans += 1
            for place in _scan_places(segment.body, ids):
                tables[place] = tables[place] or defined.get(table_numbers[place])
                first, last, low = _band(segment.body)
                left = 0.5 if low else 0.0
                missing[place][first : last + 1] = [left] * len(range(first, last + 1))
    unsent = sum(map(sum, missing))
    return tables, restart, scans, unsent / (_COEFFICIENTS * len(ids))


def _scan_places(body: bytes, ids: list[int]) -> list[int]:
    """Return the places, in the frame, of the components that a scan has."""
    count = body[0] if body else 0
    named = [body[1 + 2 * at] for at in range(count) if 1 + 2 * at < len(body)]
    return [ids.index(name) for name in named if name in ids]


def _band(body: bytes) -> tuple[int, int, int]:
    """Return a scan's first and last coefficient and how many low bits it leaves out."""
    start = 1 + 2 * body[0]
    if len(body) < start + 3:
        return 0, _COEFFICIENTS - 1, 0
    first, last, bits = body[start : start + 3]
    return min(first, 63), min(last, 63), bits & 15


def _tables(body: bytes) -> dict[int, tuple[int, ...]]:
    """Return the quantization tables of a DQT segment by number, each in natural order."""
    found, position = {}, 0
    while position < len(body):
        size, number = 1 + (body[position] >> 4), body[position] & 15
        values = body[position + 1 : position + 1 + _COEFFICIENTS * size]
        if size > 2 or len(values) < _COEFFICIENTS * size:
            break
        sent = struct.unpack(f">{_COEFFICIENTS}{'BH'[size - 1]}", values)
        natural = dict(zip(ZIGZAG, sent, strict=True))
        found[number] = tuple(natural[at] for at in range(_COEFFICIENTS))
        position += 1 + len(values)
    return found


def _is_rgb(segments: Sequence[Segment], ids: list[int]) -> bool:
    """Whether three components are red, green and blue, by the rule that libjpeg follows."""
    if len(ids) != 3:
        return False
    if any(one.marker == _JFIF and one.body.startswith(b"JFIF\0") for one in segments):
        return False
    for one in segments:
        if one.marker == _ADOBE and one.body.startswith(b"Adobe") and len(one.body) >= 12:
            return one.body[11] == 0
    return tuple(ids) == _RGB_IDS
