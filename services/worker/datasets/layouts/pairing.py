"""Which photo a file of boxes belongs to: by its name, or by the path that it states."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from urllib.parse import unquote

from services.worker.datasets.layouts.base import PLAIN_FOLDERS, folders_of, split_of

# Parts of a path that are compared, and photos of one name among which one is looked for.
_MOST_PARTS = 6
_MOST_CANDIDATES = 200


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
        self._by_end: dict[tuple[str, ...], list[str]] = {}
        self._exact: dict[str, str] = {}
        for path in photos:
            parts = path.lower().split("/")
            self._exact[path.lower()] = path
            for count in range(1, min(len(parts), _MOST_PARTS) + 1):
                self._by_end.setdefault(tuple(parts[-count:]), []).append(path)

    def find(self, stated: str, *, beside: str) -> list[str]:
        """Return the photos that may be meant by a file ``beside``: one, if it is clear.

        The photo at the stated place beside the file is meant; else of several photos of the name
        the one whose folders match the stated ones furthest, then the one that shares the most
        folders with ``beside``. A photo of another split than the file's is none.
        """
        # Exports may state the path of a URL, with %20 for a space.
        return self._find(stated, beside) or self._find(unquote(stated[:2000]), beside)

    def _find(self, stated: str, beside: str) -> list[str]:
        parts = [part.lower() for part in parts_of(stated)]
        if not parts:
            return []
        near = folders_of(beside)
        exact = self._exact.get("/".join((*near, *parts)).lower())
        if exact is not None:
            return [exact]
        split = split_of(beside)
        for count in range(min(len(parts), _MOST_PARTS), 0, -1):
            candidates = [
                path
                for path in self._by_end.get(tuple(parts[-count:]), ())[:_MOST_CANDIDATES]
                if split is None or split_of(path) in (None, split)
            ]
            if len(candidates) == 1:
                return candidates
            if candidates:
                scores = [_common(near, folders_of(path)) for path in candidates]
                best = max(scores)
                return [p for p, score in zip(candidates, scores, strict=True) if score == best]
        return []


def parts_of(stated: str) -> list[str]:
    """Return the parts of a path as annotations state it, on whatever machine."""
    path = stated.partition("?")[0] if "://" in stated else stated
    parts = re.split(r"[/\\]+", unicodedata.normalize("NFC", path[:2000]))
    if parts[0].endswith(":"):  # a drive, or a scheme
        del parts[0]
    return [part for part in parts if part not in ("", ".", "..")]


def _common(first: Sequence[str], other: Sequence[str]) -> int:
    count = 0
    for one, two in zip(first, other, strict=False):
        if one.lower() != two.lower():
            break
        count += 1
    return count
