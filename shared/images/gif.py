"""Cuts a GIF down to its first frame (GIF89a)."""

from shared.images.limits import Stripped, corrupt, first_of

_EXTENSION, _FRAME, _GRAPHIC_CONTROL = 0x21, 0x2C, 0xF9
_MAX_BLOCKS = 500_000


def keep_first_frame(data: bytes) -> Stripped:
    """Return the header, the first frame and its transparency: no comments and no more frames.

    What follows the first frame may be broken. Raises ``ImageRejectedError`` where the structure
    is broken before.
    """
    position = 13 + _table_bytes(data[10:11])
    parts = [data[:position]]
    control = b""
    for _ in range(_MAX_BLOCKS):
        kind = data[position] if position < len(data) else None
        if kind == _EXTENSION:
            end = _blocks_end(data, position + 2)
            if end is None:
                raise corrupt("it ends within a block")
            if data[position + 1] == _GRAPHIC_CONTROL and end - position == 8:
                control = data[position:end]
        elif kind == _FRAME:
            end = _frame_end(data, position)
            # Without the last block's end the decoder still says whether all pixels are there.
            kept = data[position:] + b"\0" if end is None else data[position:end]
            count = 1 if end is None else 1 + _frames(data, end)
            whole = b"".join([*parts, control, kept, b";"])
            return Stripped(whole, is_still=False, notes=first_of(count, "frame"))
        else:
            raise corrupt("it has no frame")
        position = end
    raise corrupt("it has absurdly many blocks")


def _frames(data: bytes, position: int) -> int:
    """Count the whole frames that follow."""
    count = 0
    for _ in range(_MAX_BLOCKS):
        kind = data[position] if position < len(data) else None
        if kind == _EXTENSION:
            end = _blocks_end(data, position + 2)
        elif kind == _FRAME:
            end = _frame_end(data, position)
            count += end is not None
        else:
            break
        if end is None:
            break
        position = end
    return count


def _frame_end(data: bytes, position: int) -> int | None:
    start = position + 10 + _table_bytes(data[position + 9 : position + 10]) + 1
    return _blocks_end(data, start)


def _table_bytes(flags: bytes) -> int:
    """Return the size of the color table that follows these flags."""
    if not flags or not flags[0] & 0x80:
        return 0
    return 3 << ((flags[0] & 0x07) + 1)


def _blocks_end(data: bytes, position: int) -> int | None:
    """Return where a chain of blocks ends, ``None``: not within the file.

    Each begins with its length, the last is empty.
    """
    for _ in range(_MAX_BLOCKS):
        if position >= len(data):
            return None
        length = data[position]
        position += 1 + length
        if length == 0:
            return position if position <= len(data) else None
    raise corrupt("it has absurdly many blocks")
