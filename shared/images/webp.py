"""Strips a WebP to what its pixels need (RFC 9649)."""

from shared.images.icc import is_profile
from shared.images.limits import ImageLimits, Stripped, check_size, corrupt, first_of, share
from shared.images.tiff_tags import exif_orientation

_ICC_FLAG, _ALPHA_FLAG, _ANIMATION_FLAG = 0x20, 0x10, 0x02
_MAX_CHUNKS = 10_000
_PIXELS = (b"VP8 ", b"VP8L")


def strip_webp(data: bytes, limits: ImageLimits) -> Stripped:
    """Return the same compressed pixels without EXIF, XMP, unknown chunks or trailing bytes.

    An animation keeps its frames, for the first to be decoded. The size is checked first: a
    decoder allocates the whole canvas. Raises ``ImageRejectedError``.
    """
    chunks = _chunks(data)
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
    profile = b""
    notes: tuple[str, ...] = ()
    if is_profile(first.get(b"ICCP")):
        profile = _chunk(b"ICCP", first[b"ICCP"])
    elif b"ICCP" in first:
        notes = ("a damaged color profile was left out",)
    if extended is not None and extended[0] & _ANIMATION_FLAG:
        frames = [chunk for chunk in chunks if chunk[0] in (b"ANIM", b"ANMF")]
        header = _header(extended, _ALPHA_FLAG | _ANIMATION_FLAG, profile)
        whole = _riff(header + profile + b"".join(_chunk(*chunk) for chunk in frames))
        notes += first_of(sum(kind == b"ANMF" for kind, _ in frames), "frame")
        return Stripped(whole, orientation, is_still=False, notes=notes)
    pixels = _still(first)
    if extended is None:
        return Stripped(_riff(pixels), orientation, notes=notes)
    header = _header(extended, _ALPHA_FLAG, profile)
    return Stripped(_riff(header + profile + pixels), orientation, notes=notes)


def _still(first: dict[bytes, bytes]) -> bytes:
    if b"VP8 " in first:
        alpha = _chunk(b"ALPH", first[b"ALPH"]) if b"ALPH" in first and b"VP8X" in first else b""
        return alpha + _chunk(b"VP8 ", first[b"VP8 "])
    if b"VP8L" in first:
        return _chunk(b"VP8L", first[b"VP8L"])
    raise corrupt("it ends before its pixels")


def _header(extended: bytes, kept_flags: int, profile: bytes) -> bytes:
    flags = extended[0] & kept_flags | (_ICC_FLAG if profile else 0)
    return _chunk(b"VP8X", bytes((flags, 0, 0, 0)) + extended[4:10])


def _riff(body: bytes) -> bytes:
    return b"RIFF" + (len(body) + 4).to_bytes(4, "little") + b"WEBP" + body


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Return the chunks up to the end that the file claims, or to its real one.

    A last chunk that is cut off is left out, unless it holds pixels: then it is refused. A claimed
    end before the pixels is not believed.
    """
    end = int.from_bytes(data[4:8], "little") + 8
    found, position = [], 12
    has_pixels = False
    while position + 8 <= len(data) and (position < end or not has_pixels):
        kind = data[position : position + 4]
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        body = data[position + 8 : position + 8 + length]
        if len(body) < length:
            if kind in (*_PIXELS, b"ALPH"):
                raise corrupt(f"it is cut off, and {share(1 - len(body) / length)}")
            break
        found.append((kind, body))
        has_pixels |= kind in (*_PIXELS, b"ANMF")
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
