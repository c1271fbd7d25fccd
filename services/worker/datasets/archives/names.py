"""Which names of members are paths of files, which are left behind by programs, which are traps."""

import re
import unicodedata

from services.worker.datasets.archives.limits import ArchiveLimits, ArchiveRejectedError, shown

_NESTED = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst")
# Left behind by file managers, stores and notebooks; never part of a data set. Names that begin
# with a dot are such, too. macOS writes a return into the name of a folder's icon, which file
# systems of Windows hold as U+F00D.
_LITTER = frozenset(
    {
        "__macosx",
        "@eadir",
        "@synoresource",
        "#recycle",
        "$recycle.bin",
        "system volume information",
        "lost+found",
        "thumbs.db",
        "ehthumbs.db",
        "ehthumbs_vista.db",
        "desktop.ini",
        "icon\r",
        "icon\uf00d",
    }
)


def is_litter(parts: list[str]) -> bool:
    """Whether a path, by any of its parts, is what programs leave behind."""
    return any(
        part.startswith((".", "~$")) or part.casefold() in _LITTER or part.endswith(":encryptable")
        for part in parts
    )


class Names:
    """Checks the names of an archive's members, and counts them."""

    def __init__(self, limits: ArchiveLimits) -> None:
        self._most = limits.files
        self._seen: set[str] = set()
        self.ignored = 0

    def accept(self, name: str, *, is_folder: bool = False) -> str | None:
        """Return the path of a file, or ``None`` for one to leave out.

        Backslashes are separators, as old programs on Windows write them. Raises
        ``ArchiveRejectedError`` for paths that leave the archive, and for names that are none.
        """
        name = name.replace("\\", "/")
        if not name or len(name) > 1000 or "\0" in name:
            raise ArchiveRejectedError(f"a member has the name {shown(name)}")
        if name.startswith("/") or re.match(r"^[A-Za-z]:", name):
            raise ArchiveRejectedError(f"the path {shown(name)} is not relative")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise ArchiveRejectedError(f"the path {shown(name)} leaves the archive")
        is_folder = is_folder or name.endswith("/")
        if is_litter(parts):
            self.ignored += not is_folder
            return None
        if any(ord(letter) < 32 or 0xD800 <= ord(letter) < 0xE000 for letter in name):
            raise ArchiveRejectedError(f"a member has the name {shown(name)}")
        # macOS takes accents apart: "é" of two programs is one class, and one name of a photo.
        path = unicodedata.normalize("NFC", "/".join(parts))
        if is_folder or not path:
            return None
        if path.lower().endswith(_NESTED):
            raise ArchiveRejectedError(f"{shown(name)} is an archive inside the archive")
        key = path.casefold()
        if key in self._seen:
            raise ArchiveRejectedError(f"the path {shown(name)} occurs twice")
        self._seen.add(key)
        if len(self._seen) > self._most:
            raise ArchiveRejectedError(f"there are more than {self._most} files")
        return path
