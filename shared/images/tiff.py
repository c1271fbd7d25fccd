"""Cuts a TIFF down to one picture, without believing its tags (TIFF 6.0)."""

import struct

from shared.images.limits import (
    ImageLimits,
    Stripped,
    check_size,
    corrupt,
    first_of,
    unsupported,
)
from shared.images.tiff_tags import VALUE_BYTES, Directory, byte_order, read_directories

_SUBFILE, _OLD_SUBFILE, _WIDTH, _HEIGHT, _COMPRESSION, _PHOTOMETRIC = 254, 255, 256, 257, 259, 262
_TILE_WIDTH, _TILE_LENGTH, _PROFILE, _DNG = 322, 323, 34675, 50706
_NEEDED = {
    *(256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 292, 293, 317, 320),
    *(322, 323, 324, 325, 332, 338, 339, 347, 529, 530, 531, 532, 34675),
}
# None, CCITT, LZW, JPEG, Deflate, PackBits, old Deflate: what pictures use and browsers' kin read.
_READ_COMPRESSIONS = {1, 2, 3, 4, 5, 7, 8, 32773, 32946}
_SENSOR_DATA = {32803, 34892}
_MAX_VALUES = 1_000_000  # tiles or strips of the largest image; each becomes a Python number
_BYTES_TYPES = {1, 2, 6, 7}
# A first page that nothing marks as a thumbnail is one where a larger one has the same shape.
_THUMBNAIL_SIDE, _TIMES_LARGER, _SHAPE_TOLERANCE = 640, 2, 0.03


def keep_picture(data: bytes, limits: ImageLimits) -> Stripped:
    """Return the file with a directory that names one picture's pixels and nothing else.

    That is the first page, or the full picture where the first is its thumbnail. Readers load what
    every tag points to: thousands of tags that point to the same megabytes, or chains of a million
    pages, would drown them. Raises ``ImageRejectedError`` for such a file, for absurd tiles, for
    sensor data and for compressions that are not read.
    """
    order = byte_order(data)
    if order is None:
        raise corrupt("no byte order")
    directories = read_directories(data, order)
    if any(one.has(_DNG) or one.number(_PHOTOMETRIC) in _SENSOR_DATA for one in directories):
        raise unsupported("The file is a camera's raw file, which is not read. Send its JPEG.")
    chosen, notes = _choose(directories)
    kept: dict[int, tuple[int, int, bytes]] = {}
    for tag, kind, count, value in chosen.entries:
        if tag in _NEEDED and kind in VALUE_BYTES:
            kept.setdefault(tag, (kind, count, value))
    sizes = {tag: count * VALUE_BYTES[kind] for tag, (kind, count, _) in kept.items()}
    outside = {
        tag
        for tag, (_, _, value) in kept.items()
        if sizes[tag] > 4 and struct.unpack(order + "I", value)[0] + sizes[tag] > len(data)
    }
    if _PROFILE in outside:
        outside.remove(_PROFILE)
        kept.pop(_PROFILE)
        sizes.pop(_PROFILE)
        notes += ("a damaged color profile was left out",)
    if sum(sizes.values()) > len(data) or any(
        count > _MAX_VALUES and kind not in _BYTES_TYPES for kind, count, _ in kept.values()
    ):
        raise corrupt("its tags are larger than the file")
    if outside:
        raise corrupt("it ends within its tags")
    if (chosen.number(_COMPRESSION) or 1) not in _READ_COMPRESSIONS:
        raise unsupported("The TIFF is compressed in a way that is not read.")
    if _TILE_WIDTH in kept or _TILE_LENGTH in kept:
        check_size(chosen.number(_TILE_WIDTH) or 0, chosen.number(_TILE_LENGTH) or 0, limits)
    padding = b"\0" * (len(data) % 2)
    directory = struct.pack(order + "H", len(kept))
    for tag, (kind, count, value) in sorted(kept.items()):
        directory += struct.pack(order + "HHI", tag, kind, count) + value
    start = struct.pack(order + "I", len(data) + len(padding))
    whole = data[:4] + start + data[8:] + padding + directory + b"\0" * 4
    return Stripped(whole, is_still=False, notes=notes)


def _choose(directories: list[Directory]) -> tuple[Directory, tuple[str, ...]]:
    """Return the directory of the picture to take, and what to say of the others."""
    if not directories:
        raise corrupt("it has no directory")
    first = directories[0]
    full = [one for one in directories[1:] if not _is_reduced(one)]
    if _is_reduced(first):
        # Pages before what directories contain; of those, the largest.
        pages = [one for one in full if not one.is_nested]
        chosen = pages[0] if pages else max(full, key=_pixels, default=first)
    else:
        chosen = next((one for one in full if _is_thumbnail_of(first, one)), first)
    notes: tuple[str, ...] = ()
    if chosen is not first:
        notes = ("the first page is a thumbnail: the full picture was taken",)
    pages = [one for one in directories if not one.is_nested and not _is_reduced(one)]
    others = [one for one in pages if one is not chosen and not _is_thumbnail_of(one, chosen)]
    return chosen, notes + first_of(1 + len(others), "page")


def _is_reduced(one: Directory) -> bool:
    """Whether a directory is marked as a smaller copy, or as a mask, of another."""
    return bool((one.number(_SUBFILE) or 0) & 0b101) or one.number(_OLD_SUBFILE) == 2


def _pixels(one: Directory) -> int:
    return (one.number(_WIDTH) or 0) * (one.number(_HEIGHT) or 0)


def _is_thumbnail_of(small: Directory, large: Directory) -> bool:
    width, height = small.number(_WIDTH) or 0, small.number(_HEIGHT) or 0
    whole = large.number(_WIDTH) or 0, large.number(_HEIGHT) or 0
    if not min(width, height, *whole) or max(width, height) > _THUMBNAIL_SIDE:
        return False
    across, down = whole[0] / width, whole[1] / height
    return min(across, down) >= _TIMES_LARGER and abs(across / down - 1) <= _SHAPE_TOLERANCE
