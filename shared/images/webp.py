"""Strips a WebP to what its pixels need (RFC 9649)."""

from shared.images.icc import is_profile
from shared.images.limits import ImageLimits, Stripped, check_size, corrupt
from shared.images.tiff import exif_orientation

_ICC_FLAG, _ALPHA_FLAG, _ANIMATION_FLAG = 0x20, 0x10, 0x02
_MAX_CHUNKS = 10_000


def strip_webp(data: bytes, limits: ImageLimits) -> Stripped:
    """Return the same compressed pixels without EXIF, XMP, unknown chunks or trailing bytes.

    An animation keeps its frames, for the first to be decoded. The size is checked first: a
    decoder allocates the whole canvas. Raises ``ImageRejectedError``.
    """
    end = int.from_bytes(data[4:8], "little") + 8
    if end > len(data):
        raise corrupt("it ends before its pixels do")
    chunks = _chunks(data[:end])
    first: dict[bytes, bytes] = {}
    for kind, body in chunks:
        first.setdefault(kind, body)
    orientation = exif_orientation(first.get(b"EXIF", b""))
    for kind, body in chunks:
        if (size := _size(kind, body)) is not None:
            check_size(*size, limits)
    extended = first.get(b"VP8X")
    if extended is not None and len(extended) < 10:
        raise corrupt("its header is wrong")
    profile = _chunk(b"ICCP", first[b"ICCP"]) if is_profile(first.get(b"ICCP")) else b""
    if extended is not None and extended[0] & _ANIMATION_FLAG:
        frames = b"".join(_chunk(*chunk) for chunk in chunks if chunk[0] in (b"ANIM", b"ANMF"))
        header = _header(extended, _ALPHA_FLAG | _ANIMATION_FLAG, profile)
        return Stripped(_riff(header + profile + frames), orientation, is_still=False)
    pixels = _still(first)
    if extended is None:
        return Stripped(_riff(pixels), orientation)
    return Stripped(_riff(_header(extended, _ALPHA_FLAG, profile) + profile + pixels), orientation)


def _still(first: dict[bytes, bytes]) -> bytes:
    if b"VP8 " in first:
        alpha = _chunk(b"ALPH", first[b"ALPH"]) if b"ALPH" in first and b"VP8X" in first else b""
        return alpha + _chunk(b"VP8 ", first[b"VP8 "])
    if b"VP8L" in first:
        return _chunk(b"VP8L", first[b"VP8L"])
    raise corrupt("no pixels")


def _header(extended: bytes, kept_flags: int, profile: bytes) -> bytes:
    flags = extended[0] & kept_flags | (_ICC_FLAG if profile else 0)
    return _chunk(b"VP8X", bytes((flags, 0, 0, 0)) + extended[4:10])


def _riff(body: bytes) -> bytes:
    return b"RIFF" + (len(body) + 4).to_bytes(4, "little") + b"WEBP" + body


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    found, position = [], 12
    while position + 8 <= len(data):
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        body = data[position + 8 : position + 8 + length]
        if len(body) < length:
            raise corrupt("it ends within a chunk")
        found.append((data[position : position + 4], body))
        if len(found) > _MAX_CHUNKS:
            raise corrupt("it has absurdly many chunks")
        position += 8 + length + length % 2
    return found


def _chunk(kind: bytes, body: bytes) -> bytes:
    return kind + len(body).to_bytes(4, "little") + body + b"\0" * (len(body) % 2)


def _size(kind: bytes, body: bytes) -> tuple[int, int] | None:
    if kind == b"VP8X" and len(body) >= 10:
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if kind == b"VP8 " and len(body) >= 10:
        width, height = body[6:8], body[8:10]
        return int.from_bytes(width, "little") & 0x3FFF, int.from_bytes(height, "little") & 0x3FFF
    if kind == b"VP8L" and len(body) >= 5:
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return None
