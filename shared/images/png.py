"""Strips a PNG to what its pixels need (W3C PNG, third edition)."""

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from shared.images.icc import is_profile
from shared.images.limits import (
    ImageLimits,
    Stripped,
    check_size,
    corrupt,
    first_of,
    share,
    unsupported,
)
from shared.images.tiff_tags import exif_orientation

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_CHUNKS = 100_000
_MAX_PROFILE = 2**20  # Pillow reads no larger one from a PNG
_STEP, _LEAST_STEP = 2**20, 2**12
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by color type
_DEPTHS = {1, 2, 4, 8, 16}
_ADAM7 = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)


def _is_compressed_profile(body: bytes) -> bool:
    name, _, compressed = body.partition(b"\0")
    if not 1 <= len(name) <= 79 or compressed[:1] != b"\0":
        return False
    inflater = zlib.decompressobj()
    try:
        profile = inflater.decompress(compressed[1:], _MAX_PROFILE)
    except zlib.error:
        return False
    return inflater.eof and not inflater.unused_data and is_profile(profile)


# Whether a chunk is what it says: one of another size would be a place to hide things.
_ANCILLARY: dict[bytes, Callable[[bytes], bool]] = {
    b"tRNS": lambda body: len(body) <= 256,
    b"gAMA": lambda body: len(body) == 4,
    b"cHRM": lambda body: len(body) == 32,
    b"sRGB": lambda body: len(body) == 1,
    b"cICP": lambda body: len(body) == 4,
    b"sBIT": lambda body: len(body) <= 4,
    b"bKGD": lambda body: len(body) <= 6,
    b"pHYs": lambda body: len(body) == 9,
    b"iCCP": _is_compressed_profile,
}

# Those whose loss shows.
_SEEN = {b"iCCP": "its color profile", b"tRNS": "its transparency", b"cICP": "its color space"}


@dataclass
class _Kept:
    """What of a PNG's chunks is kept."""

    limits: ImageLimits
    header: bytes | None = None
    palette: bytes | None = None
    orientation: int | None = None
    ancillary: dict[bytes, bytes] = field(default_factory=dict)
    pixels: list[bytes] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def take_critical(self, kind: bytes, body: bytes, *, is_right: bool) -> None:
        """Keep a chunk without which there is no picture."""
        if kind == b"IDAT":  # what it inflates to has a checksum of its own
            self.pixels.append(body)
            return
        if not is_right:
            raise corrupt("a checksum is wrong")
        if kind == b"IHDR":
            if self.header is not None or len(body) != 13:
                raise corrupt("its header is wrong")
            self.header = body
            width, height = struct.unpack_from(">II", body)
            check_size(width, height, self.limits)
        elif kind == b"PLTE":
            if self.palette is not None or len(body) > 768:
                raise corrupt("its palette is wrong")
            self.palette = body
        else:
            raise corrupt("it has a critical chunk that is not known")

    def take_ancillary(self, kind: bytes, body: bytes, *, is_right: bool) -> None:
        """Keep what colors need of the chunks that a reader may skip."""
        if kind == b"eXIf" and self.orientation is None and is_right:
            self.orientation = exif_orientation(body)
        elif kind == b"acTL":
            self.notes += first_of(int.from_bytes(body[:4], "big"), "frame")
        elif kind in _ANCILLARY and kind not in self.ancillary:
            if is_right and _ANCILLARY[kind](body):
                self.ancillary[kind] = body
            elif kind in _SEEN:
                self.notes.append(f"{_SEEN[kind]} is damaged and was left out")


def strip_png(data: bytes, limits: ImageLimits) -> Stripped:
    """Return the same compressed pixels without text, times, EXIF, animation or trailing bytes.

    Damage in what is thrown away costs nothing, a checksum of the pixels included: the pixels have
    one of their own. Raises ``ImageRejectedError`` for a broken header or palette, pixels that are
    not all there, and a size over the limits (before any pixel is inflated).
    """
    kept = _Kept(limits)
    for kind, body, is_right in _chunks(data):
        if kind == b"CgBI":
            raise unsupported("The file is a PNG of an iOS app (CgBI), which is not read.")
        if kept.header is None and kind != b"IHDR":
            raise corrupt("it does not begin with its header")
        if kind == b"IEND":
            break
        if kind[0] & 0x20:
            kept.take_ancillary(kind, body, is_right=is_right)
        else:
            kept.take_critical(kind, body, is_right=is_right)
    if kept.header is None:
        raise corrupt("it has no header")
    ancillary, after_palette = kept.ancillary, (b"tRNS", b"bKGD")
    parts = [SIGNATURE, _chunk(b"IHDR", kept.header)]
    parts += [_chunk(kind, body) for kind, body in ancillary.items() if kind not in after_palette]
    if kept.palette is not None:
        parts.append(_chunk(b"PLTE", kept.palette))
    parts += [_chunk(kind, ancillary[kind]) for kind in after_palette if kind in ancillary]
    whole = _whole_pixels(kept.pixels, _inflated_bytes(kept.header))
    parts += [_chunk(b"IDAT", body) for body in whole]
    png = b"".join([*parts, _chunk(b"IEND", b"")])
    return Stripped(png, kept.orientation or 1, notes=tuple(kept.notes))


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
    """Yield kind, body and whether the checksum is right of every chunk, to the file's end.

    The last may be cut off.
    """
    position = len(SIGNATURE)
    for _ in range(_MAX_CHUNKS):
        length = int.from_bytes(data[position : position + 4], "big")
        end = position + 12 + length
        kind, body = data[position + 4 : position + 8], data[position + 8 : end - 4]
        if len(kind) < 4:
            return
        checksum = int.from_bytes(data[end - 4 : end], "big")
        yield kind, body, end <= len(data) and zlib.crc32(body, zlib.crc32(kind)) == checksum
        position = end
    raise corrupt("it has absurdly many chunks")


def _chunk(kind: bytes, body: bytes) -> bytes:
    checksum = zlib.crc32(body, zlib.crc32(kind))
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)


def _inflated_bytes(header: bytes) -> int:
    """Return how many bytes the pixels of this header take: rows, each after its filter byte."""
    width, height, depth, color, _, _, interlace = struct.unpack(">IIBBBBB", header)
    if color not in _SAMPLES or depth not in _DEPTHS or interlace > 1:
        raise corrupt("its header is wrong")
    total = 0
    for left, top, right, down in _ADAM7 if interlace else ((0, 0, 1, 1),):
        columns, rows = -(-(width - left) // right), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + -(-columns * depth * _SAMPLES[color] // 8))
    return total


def _whole_pixels(bodies: list[bytes], expected: int) -> list[bytes]:
    """Return the compressed pixels and nothing that follows them; refuse fewer than expected.

    Data that goes on after the last pixel, or lacks its end, is compressed again.
    """
    inflater = zlib.decompressobj()
    inflated = 0
    fine = max(_LEAST_STEP, expected // 64)  # a piece with damage in it is lost as a whole
    kept: list[bytes] = []
    for body in bodies:
        waiting = body
        while not inflater.eof:
            step = max(1, min(_STEP, fine, expected - inflated))
            try:
                piece = inflater.decompress(waiting, step)
            except zlib.error as error:
                if inflated == expected:  # only the checksum after the last pixel is wrong
                    return [_compressed_again(bodies, expected)]
                missing = share(1 - inflated / expected)
                raise corrupt(f"its pixels cannot be inflated to the end: {missing}") from error
            inflated += len(piece)
            waiting = inflater.unconsumed_tail
            if inflated > expected:
                return [_compressed_again(bodies, expected)]
            if not waiting and len(piece) < step:
                break
        kept.append(body[: len(body) - len(inflater.unused_data)])
        if inflater.eof:
            break
    if inflated < expected:
        raise corrupt(f"it is cut off, and {share(1 - inflated / expected)}")
    return kept if inflater.eof else [_compressed_again(bodies, expected)]


def _compressed_again(bodies: list[bytes], expected: int) -> bytes:
    """Compress the first ``expected`` bytes that these inflate to, a piece at a time."""
    inflater, deflater = zlib.decompressobj(), zlib.compressobj()
    made: list[bytes] = []
    for body in bodies:
        waiting = body
        while expected > 0:
            step = min(_STEP, expected)
            piece = inflater.decompress(waiting, step)
            made.append(deflater.compress(piece))
            expected -= len(piece)
            waiting = inflater.unconsumed_tail
            if not waiting and len(piece) < step:
                break
    return b"".join([*made, deflater.flush()])
