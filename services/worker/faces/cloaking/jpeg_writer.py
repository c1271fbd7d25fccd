"""Writes a baseline JPEG with any sampling factors and tables (ITU-T T.81, annex K's codes).

Pillow writes 4:4:4, 4:2:2 and 4:2:0 only. This is for the rest, such as 4:4:0 and 4:1:1.
"""

import io
import struct
from collections.abc import Sequence
from functools import cache

import numpy as np
from numba import njit
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn

from shared.images.jpeg import DHT, Segment, profile_segments, walk
from shared.images.jpeg_frame import ZIGZAG, JpegFrame

_BLOCK = 8
_ROWS_AT_ONCE = 32  # of interleaved units
_BYTES_A_BLOCK = 512  # 64 coefficients of 26 bits, each byte perhaps followed by a stuffed zero
_END = b"\xff\xd9"
_JFIF = Segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0")
_ADOBE_RGB = Segment(0xEE, b"Adobe\0\x64\0\0\0\0\0")

Codes = NDArray[np.int32]  # (classes, 256, 2): code and its length, by table class


def write_jpeg(
    image: Image.Image,
    frame: JpegFrame,
    *,
    profile: bytes | None = None,
    exif: bytes | None = None,
) -> bytes:
    """Write an RGB image with the components, sampling and tables of ``frame``.

    Restart markers are not written. Raises ``ValueError`` for another mode, or factors that do not
    divide the largest.
    """
    across, down = frame.mcu
    if image.mode != "RGB" or len(frame.components) != 3:
        raise ValueError("only pictures of three components are written")
    if any(across % one.horizontal or down % one.vertical for one in frame.components):
        raise ValueError("the sampling factors do not divide the largest")
    planes = np.asarray(image if frame.is_rgb else image.convert("YCbCr"))
    marker = _ADOBE_RGB if frame.is_rgb else _JFIF
    applications = [marker.written()]
    if exif:
        applications.append(Segment(0xE1, exif).written())
    if profile:
        applications += [one.written() for one in profile_segments(profile)]
    head = [b"\xff\xd8", *applications, *_headers(frame, planes.shape)]
    return b"".join([*head, _scan(planes, frame), _END])


def _headers(frame: JpegFrame, shape: Sequence[int]) -> list[bytes]:
    tables, rows, scan = [], b"", b""
    for number, one in enumerate(frame.components):
        table = one.table or (1,) * 64
        sent = [table[at] for at in ZIGZAG]
        wide = max(sent) > 255
        tables.append(
            Segment(
                0xDB,
                bytes((wide << 4 | number,)) + struct.pack(f">64{'H' if wide else 'B'}", *sent),
            )
        )
        rows += bytes((number + 1, one.horizontal << 4 | one.vertical, number))
        scan += bytes((number + 1, 0x11 if number else 0))
    extended = any(max(one.table or (1,)) > 255 for one in frame.components)
    size = struct.pack(">BHHB", 8, shape[0], shape[1], len(frame.components))
    return [
        *(table.written() for table in tables),
        Segment(0xC1 if extended else 0xC0, size + rows).written(),
        *(segment.written() for segment in _code_segments()),
        Segment(0xDA, bytes((len(frame.components),)) + scan + b"\0\x3f\0").written(),
    ]


def _scan(planes: NDArray[np.uint8], frame: JpegFrame) -> bytes:
    """Return the compressed data of all components, interleaved."""
    across, down = frame.mcu
    height, width = planes.shape[:2]
    columns = -(-width // (_BLOCK * across))
    rows = -(-height // (_BLOCK * down))
    pattern = np.concatenate(
        [
            np.full(one.horizontal * one.vertical, number)
            for number, one in enumerate(frame.components)
        ]
    ).astype(np.int32)
    codes = _codes()
    state = np.zeros(2, dtype=np.int64)  # bits that wait, and how many they are
    before = np.zeros(len(frame.components), dtype=np.int32)
    parts: list[bytes] = []
    for start in range(0, rows, _ROWS_AT_ONCE):
        count = min(_ROWS_AT_ONCE, rows - start)
        blocks = _blocks(planes, frame, start, count, columns)
        out = np.empty(len(blocks) * _BYTES_A_BLOCK + 16, dtype=np.uint8)
        length = _encode(blocks, pattern, codes, before, state, out)
        parts.append(out[:length].tobytes())
    waiting = int(state[1])
    if waiting:
        last = (int(state[0]) << (8 - waiting) | 0xFF >> waiting) & 0xFF
        parts.append(bytes((last,)) if last != 0xFF else b"\xff\0")
    return b"".join(parts)


def _blocks(
    planes: NDArray[np.uint8], frame: JpegFrame, start: int, count: int, columns: int
) -> NDArray[np.int32]:
    """Return quantized coefficients ``(N, 64)``, in the order in which they are sent."""
    across, down = frame.mcu
    top, wide = start * down * _BLOCK, columns * across * _BLOCK
    strip = planes[top : top + count * down * _BLOCK]
    missing = (count * down * _BLOCK - strip.shape[0], wide - strip.shape[1])
    strip = np.pad(strip, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
    parts = []
    for number, one in enumerate(frame.components):
        shrink_y, shrink_x = down // one.vertical, across // one.horizontal
        plane = strip[..., number].astype(np.float32)
        plane = plane.reshape(
            plane.shape[0] // shrink_y, shrink_y, plane.shape[1] // shrink_x, shrink_x
        ).mean((1, 3))
        tiles = plane.reshape(count, one.vertical, _BLOCK, columns, one.horizontal, _BLOCK)
        # (rows of units, columns of units, blocks of a unit, 8, 8)
        tiles = tiles.transpose(0, 3, 1, 4, 2, 5) - 128
        table = np.asarray(one.table or (1,) * 64, dtype=np.float32).reshape(_BLOCK, _BLOCK)
        found = np.rint(dctn(tiles, axes=(-2, -1), norm="ortho") / table)
        parts.append(found.reshape(count * columns, -1, 64)[..., list(ZIGZAG)])
    units = np.concatenate(parts, 1).reshape(-1, 64).clip(-1023, 1023)
    return np.ascontiguousarray(units, dtype=np.int32)


@cache
def _code_segments() -> tuple[Segment, ...]:
    """Return annex K's code tables, as Pillow's encoder writes them."""
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "JPEG")
    return tuple(one for one in walk(out.getvalue()).segments if one.marker == DHT)


@cache
def _codes() -> Codes:
    """Return the codes of DC and AC for brightness and color: ``(4, 256, 2)``."""
    codes = np.zeros((4, 256, 2), dtype=np.int32)
    for segment in _code_segments():
        body, position = segment.body, 0
        while position < len(body):
            kind, number = body[position] >> 4, body[position] & 15
            counts = body[position + 1 : position + 17]
            position += 17
            code = 0
            for length, count in enumerate(counts, start=1):
                for value in body[position : position + count]:
                    codes[2 * kind + number, value] = code, length
                    code += 1
                position += count
                code <<= 1
    return codes


@njit(cache=True, nogil=True)
def _put(code: int, length: int, state: NDArray[np.int64], out: NDArray[np.uint8], at: int) -> int:
    """Add bits; whole bytes go out, a zero after each of 255."""
    bits = (state[0] << length) | code
    count = state[1] + length
    while count >= 8:
        byte = (bits >> (count - 8)) & 0xFF
        out[at] = byte
        at += 1
        if byte == 0xFF:
            out[at] = 0
            at += 1
        count -= 8
    state[0] = bits & ((1 << count) - 1)
    state[1] = count
    return at


@njit(cache=True, nogil=True)
def _encode(
    blocks: Codes,
    pattern: Codes,
    codes: Codes,
    before: Codes,
    state: NDArray[np.int64],
    out: NDArray[np.uint8],
) -> int:
    """Write blocks ``(N, 64)`` as annex F.1.2 says; returns the number of bytes."""
    at = 0
    for index in range(len(blocks)):
        component = pattern[index % len(pattern)]
        table = 1 if component else 0
        difference = blocks[index, 0] - before[component]
        before[component] = blocks[index, 0]
        run = 0
        for place in range(64):
            value = difference if place == 0 else blocks[index, place]
            if place > 0 and value == 0:
                run += 1
                continue
            while run > 15:
                at = _put(codes[2 + table, 0xF0, 0], codes[2 + table, 0xF0, 1], state, out, at)
                run -= 16
            size = 0
            rest = abs(value)
            while rest:
                size += 1
                rest >>= 1
            row = table if place == 0 else 2 + table
            symbol = size if place == 0 else run << 4 | size
            at = _put(codes[row, symbol, 0], codes[row, symbol, 1], state, out, at)
            if size:
                at = _put(value if value > 0 else value + (1 << size) - 1, size, state, out, at)
            run = 0
        if run:
            at = _put(codes[2 + table, 0, 0], codes[2 + table, 0, 1], state, out, at)
    return at
