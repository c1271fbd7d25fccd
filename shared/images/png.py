"""Strips a PNG to what its pixels need (W3C PNG, third edition)."""

import struct
import zlib
from collections.abc import Callable, Iterator

from shared.images.icc import is_profile
from shared.images.limits import ImageLimits, Stripped, check_size, corrupt
from shared.images.tiff import exif_orientation

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_CHUNKS = 100_000
_MAX_PROFILE = 2**20  # Pillow reads no larger one from a PNG
_STEP = 2**20
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


def strip_png(data: bytes, limits: ImageLimits) -> Stripped:
    """Return the same compressed pixels without text, times, EXIF, animation or trailing bytes.

    Raises ``ImageRejectedError`` for a broken structure or checksum, pixels that are too few or
    too many for the header, and a size over the limits (before any pixel is inflated).
    """
    header: bytes | None = None
    palette: bytes | None = None
    ancillary: dict[bytes, bytes] = {}
    pixels: list[bytes] = []
    orientation: int | None = None
    for kind, body in _chunks(data):
        if header is None and kind != b"IHDR":
            raise corrupt("it does not begin with its header")
        if kind == b"IHDR":
            if header is not None or len(body) != 13:
                raise corrupt("its header is wrong")
            header = body
            width, height = struct.unpack_from(">II", body)
            check_size(width, height, limits)
        elif kind == b"PLTE":
            if palette is not None or len(body) > 768:
                raise corrupt("its palette is wrong")
            palette = body
        elif kind == b"IDAT":
            pixels.append(body)
        elif kind == b"eXIf" and orientation is None:
            orientation = exif_orientation(body)
        elif kind in _ANCILLARY and kind not in ancillary and _ANCILLARY[kind](body):
            ancillary[kind] = body
        elif kind != b"IEND" and not kind[0] & 0x20:
            raise corrupt("it has a critical chunk that is not known")
    if header is None:
        raise corrupt("it has no header")
    after_palette = (b"tRNS", b"bKGD")
    parts = [SIGNATURE, _chunk(b"IHDR", header)]
    parts += [_chunk(kind, body) for kind, body in ancillary.items() if kind not in after_palette]
    if palette is not None:
        parts.append(_chunk(b"PLTE", palette))
    parts += [_chunk(kind, ancillary[kind]) for kind in after_palette if kind in ancillary]
    parts += [_chunk(b"IDAT", body) for body in _whole_pixels(pixels, _inflated_bytes(header))]
    return Stripped(b"".join([*parts, _chunk(b"IEND", b"")]), orientation or 1)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and body of every chunk to the last, which is IEND; their checksums are right."""
    position = len(SIGNATURE)
    for _ in range(_MAX_CHUNKS):
        length = int.from_bytes(data[position : position + 4], "big")
        end = position + 12 + length
        if position + 12 > len(data) or end > len(data):
            raise corrupt("it ends within a chunk")
        kind, body = data[position + 4 : position + 8], data[position + 8 : end - 4]
        if zlib.crc32(body, zlib.crc32(kind)) != int.from_bytes(data[end - 4 : end], "big"):
            raise corrupt("a checksum is wrong")
        yield kind, body
        if kind == b"IEND":
            return
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
    """Return the compressed pixels without what follows their end; refuse other than expected."""
    inflater = zlib.decompressobj()
    inflated = 0
    for index, body in enumerate(bodies):
        waiting = body
        while True:
            try:
                piece = inflater.decompress(waiting, _STEP)
            except zlib.error as error:
                raise corrupt("its pixels cannot be inflated") from error
            inflated += len(piece)
            waiting = inflater.unconsumed_tail
            if inflated > expected:
                raise corrupt("it has more pixels than its header says")
            if inflater.eof or (not waiting and len(piece) < _STEP):
                break
        if inflater.eof:
            if inflated < expected:
                raise corrupt("it has fewer pixels than its header says")
            last = body[: len(body) - len(inflater.unused_data)]
            return [*bodies[:index], last]
    raise corrupt("it ends within its pixels")
