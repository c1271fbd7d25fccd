"""Reads the tags of a TIFF, and of EXIF, which is one (TIFF 6.0), without believing them."""

import struct

from shared.images.limits import ImageLimits, check_size, corrupt, unsupported

_ORIENTATION = 274
_COMPRESSION, _TILE_WIDTH, _TILE_LENGTH = 259, 322, 323
_NEEDED = {
    *(256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 292, 293, 317, 320),
    *(322, 323, 324, 325, 332, 338, 339, 347, 529, 530, 531, 532, 34675),
}
# None, CCITT, LZW, JPEG, Deflate, PackBits, old Deflate: what pictures use and browsers' kin read.
_READ_COMPRESSIONS = {1, 2, 3, 4, 5, 7, 8, 32773, 32946}
_VALUE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_MAX_VALUES = 1_000_000  # tiles or strips of the largest image; each becomes a Python number
_BYTES_TYPES = {1, 2, 6, 7}


def exif_orientation(exif: bytes) -> int:
    """Return the orientation (1 to 8) that EXIF data asks for; 1 when it says nothing sensible."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = _byte_order(exif)
    if order is None:
        return 1
    for tag, kind, count, value in _entries(exif, order):
        if tag == _ORIENTATION:
            number = _number(order, kind, count, value)
            return number if number is not None and 1 <= number <= 8 else 1
    return 1


def keep_first_page(data: bytes, limits: ImageLimits) -> bytes:
    """Return the file with a directory that names the first page's pixels and nothing else.

    Readers load what every tag points to: thousands of tags that point to the same megabytes, or
    chains of a million pages, would drown them. Raises ``ImageRejectedError`` for such a file,
    for absurd tiles and for compressions that are not read.
    """
    order = _byte_order(data)
    if order is None:
        raise corrupt("no byte order")
    kept: dict[int, tuple[int, int, bytes]] = {}
    for tag, kind, count, value in _entries(data, order):
        if tag in _NEEDED and kind in _VALUE_BYTES:
            kept.setdefault(tag, (kind, count, value))
    sizes = {tag: count * _VALUE_BYTES[kind] for tag, (kind, count, _) in kept.items()}
    if sum(sizes.values()) > len(data) or any(
        count > _MAX_VALUES and kind not in _BYTES_TYPES for kind, count, _ in kept.values()
    ):
        raise corrupt("its tags are larger than the file")
    for tag, (_, _, value) in kept.items():
        if sizes[tag] > 4 and struct.unpack(order + "I", value)[0] + sizes[tag] > len(data):
            raise corrupt("it ends within its tags")
    numbers = {tag: _number(order, *entry) for tag, entry in kept.items()}
    if (numbers.get(_COMPRESSION) or 1) not in _READ_COMPRESSIONS:
        raise unsupported("The TIFF is compressed in a way that is not read.")
    if _TILE_WIDTH in kept or _TILE_LENGTH in kept:
        check_size(numbers.get(_TILE_WIDTH) or 0, numbers.get(_TILE_LENGTH) or 0, limits)
    padding = b"\0" * (len(data) % 2)
    directory = struct.pack(order + "H", len(kept))
    for tag, (kind, count, value) in sorted(kept.items()):
        directory += struct.pack(order + "HHI", tag, kind, count) + value
    start = struct.pack(order + "I", len(data) + len(padding))
    return data[:4] + start + data[8:] + padding + directory + b"\0" * 4


def _byte_order(data: bytes) -> str | None:
    return {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])


def _entries(data: bytes, order: str) -> list[tuple[int, int, int, bytes]]:
    """Return tag, type, count and the four value bytes of each entry of the first directory."""
    if len(data) < 8:
        return []
    (start,) = struct.unpack_from(order + "I", data, 4)
    if start + 2 > len(data):
        return []
    (count,) = struct.unpack_from(order + "H", data, start)
    whole = min(count, (len(data) - start - 2) // 12)
    return [
        struct.unpack_from(order + "HHI4s", data, start + 2 + 12 * index) for index in range(whole)
    ]


def _number(order: str, kind: int, count: int, value: bytes) -> int | None:
    if count != 1 or kind not in (3, 4):
        return None
    return int(struct.unpack_from(order + ("H" if kind == 3 else "I"), value)[0])
