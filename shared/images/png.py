"""Strips a PNG to what its pixels need (W3C PNG, third edition)."""

import zlib

from shared.images.limits import corrupt

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KEPT = {
    *(b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS"),
    *(b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"cICP", b"sBIT", b"bKGD", b"pHYs"),
}
_MAX_PROFILE = 4 * 2**20


def strip_png(data: bytes) -> bytes:
    """Return the same compressed pixels without text, times, EXIF, animation or trailing bytes.

    Raises ``ImageRejectedError`` for a broken structure or checksum.
    """
    parts = [SIGNATURE]
    position = len(SIGNATURE)
    while True:
        length = int.from_bytes(data[position : position + 4], "big")
        end = position + 12 + length
        kind = data[position + 4 : position + 8]
        if len(kind) < 4 or end > len(data):
            raise corrupt("it ends within a chunk")
        if kind in _KEPT:
            checksum = int.from_bytes(data[end - 4 : end], "big")
            if zlib.crc32(data[position + 4 : end - 4]) != checksum:
                raise corrupt("a checksum is wrong")
            if kind != b"iCCP" or _is_small_profile(data[position + 8 : end - 4]):
                parts.append(data[position:end])
        elif not kind[0] & 0x20:
            raise corrupt("it has a critical chunk that is not known")
        if kind == b"IEND":
            return b"".join(parts)
        position = end


def _is_small_profile(body: bytes) -> bool:
    """Whether a compressed color profile inflates to a bearable size; others are left out."""
    name, _, compressed = body.partition(b"\0")
    if not name or not compressed:
        return False
    inflater = zlib.decompressobj()
    try:
        inflater.decompress(compressed[1:], _MAX_PROFILE)
    except zlib.error:
        return False
    return inflater.eof
