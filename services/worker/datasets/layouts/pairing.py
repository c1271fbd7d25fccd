"""Which photo a file of boxes belongs to: by its name, or by the path that it states."""

from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath, PureWindowsPath

from services.worker.datasets.layouts.base import PLAIN_FOLDERS, folders_of, split_of


def photos_of(annotations: Iterable[str], photos: Iterable[str]) -> dict[str, str]:
    """Return the photo of each file of boxes that has one.

    Both have the same name, but for the ending. Where several photos or files have one name, they
    have to lie in the same folder as well, but for ``PLAIN_FOLDERS``; what stays ambiguous belongs
    to nothing.
    """
    beside = _by_stem(photos)
    found = {}
    for stem, mine in _by_stem(annotations).items():
        candidates = beside.get(stem, [])
        if len(mine) == len(candidates) == 1:
            found[mine[0]] = candidates[0]
            continue
        ours, theirs = _by_place(mine), _by_place(candidates)
        for place, paths in ours.items():
            there = theirs.get(place, [])
            if len(paths) == len(there) == 1:
                found[paths[0]] = there[0]
    return found


def _by_stem(paths: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in paths:
        found.setdefault(PurePosixPath(path).stem, []).append(path)
    return found


def _by_place(paths: Iterable[str]) -> dict[tuple[str, ...], list[str]]:
    places: dict[tuple[str, ...], list[str]] = {}
    for path in paths:
        place = tuple(name for name in folders_of(path) if name.lower() not in PLAIN_FOLDERS)
        places.setdefault(place, []).append(path)
    return places


class PhotoIndex:
    """Finds photos by the paths that annotations state, which may be those of another machine."""

    def __init__(self, photos: Iterable[str]) -> None:
        self._by_name: dict[str, list[str]] = {}
        for path in photos:
            self._by_name.setdefault(PurePosixPath(path).name.lower(), []).append(path)

    def find(self, stated: str, *, beside: str) -> list[str]:
        """Return the photos that may be meant by a file ``beside``: one, if it is clear.

        Of several photos of the name the one whose folders match the stated ones furthest is
        meant, then the one that shares the most folders with ``beside``. A photo of another split
        than the file's is none.
        """
        parts = parts_of(stated)
        if not parts:
            return []
        split = split_of(beside)
        candidates = [
            path
            for path in self._by_name.get(parts[-1].lower(), ())
            if split is None or split_of(path) in (None, split)
        ]
        if len(candidates) < 2:
            return candidates
        near = folders_of(beside)
        scores = [
            (
                _common(parts[::-1], PurePosixPath(path).parts[::-1]),
                _common(near, folders_of(path)),
            )
            for path in candidates
        ]
        best = max(scores)
        return [path for path, score in zip(candidates, scores, strict=True) if score == best]


def parts_of(stated: str) -> list[str]:
    """Return the parts of a path as annotations state it, on whatever machine."""
    path = stated.partition("?")[0] if "://" in stated else stated
    kept = PureWindowsPath(path[:2000]).parts  # knows both separators
    return [part for part in kept if part not in ("..", "/", "\\", ".") and ":" not in part]


def _common(first: Sequence[str], other: Sequence[str]) -> int:
    count = 0
    for one, two in zip(first, other, strict=False):
        if one.lower() != two.lower():
            break
        count += 1
    return count
