"""Files on disk without names: what is unpacked and cleaned does not have to fit into memory."""

import weakref
from collections.abc import Mapping, Sequence
from tempfile import TemporaryFile


class Spool:
    """Bytes by path, in one file that is gone with this object."""

    def __init__(self) -> None:
        self._file = TemporaryFile()  # noqa: SIM115 - closed by the next line
        weakref.finalize(self, self._file.close)
        self._places: dict[str, tuple[int, int]] = {}
        self._end = 0

    @property
    def paths(self) -> Sequence[str]:
        """The paths, in the order in which they came."""
        return tuple(self._places)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return self._end

    def add(self, path: str, data: bytes) -> None:
        """Keep a file."""
        self._file.seek(self._end)
        self._file.write(data)
        self._places[path] = (self._end, len(data))
        self._end += len(data)

    def read(self, path: str) -> bytes:
        """Return a file's bytes."""
        start, size = self._places[path]
        self._file.seek(start)
        return self._file.read(size)

    def rename(self, names: Mapping[str, str]) -> None:
        """Give files other paths."""
        self._places = {names.get(path, path): place for path, place in self._places.items()}
