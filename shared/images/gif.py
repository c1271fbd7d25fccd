"""Cuts a GIF down to its first frame (GIF89a)."""

from shared.images.limits import corrupt

_EXTENSION, _FRAME, _GRAPHIC_CONTROL = 0x21, 0x2C, 0xF9
_MAX_BLOCKS = 500_000


def keep_first_frame(data: bytes) -> bytes:
    """Return the header, the first frame and its transparency: no comments and no more frames.

    Raises ``ImageRejectedError`` where the structure is broken.
    """
    position = 13 + _table_bytes(data[10:11])
    parts = [data[:position]]
    control = b""
    for _ in range(_MAX_BLOCKS):
        kind = data[position] if position < len(data) else None
        if kind == _EXTENSION:
            end = _blocks_end(data, position + 2)
            if data[position + 1] == _GRAPHIC_CONTROL and end - position == 8:
                control = data[position:end]
        elif kind == _FRAME:
            start = position + 10 + _table_bytes(data[position + 9 : position + 10]) + 1
            end = _blocks_end(data, start)
            return b"".join([*parts, control, data[position:end], b";"])
        else:
            raise corrupt("it has no frame")
        position = end
    raise corrupt("it has absurdly many blocks")


def _table_bytes(flags: bytes) -> int:
    """Return the size of the color table that follows these flags."""
    if not flags or not flags[0] & 0x80:
        return 0
    return 3 << ((flags[0] & 0x07) + 1)


def _blocks_end(data: bytes, position: int) -> int:
    """Return where a chain of blocks ends; each begins with its length, the last is empty."""
    for _ in range(_MAX_BLOCKS):
        if position >= len(data):
            raise corrupt("it ends within a block")
        length = data[position]
        position += 1 + length
        if length == 0:
            return position
    raise corrupt("it has absurdly many blocks")
