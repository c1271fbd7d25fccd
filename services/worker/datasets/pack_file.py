"""Writes packs of images. Imports no PyTorch: imports of data sets need none."""

import zipfile
from collections.abc import Iterable
from typing import IO

from shared.dataset_card import CARD_FILE, DatasetCard

# Packs are written with one time stamp: same images, same bytes.
_EPOCH = (1980, 1, 1, 0, 0, 0)


def write_pack_file(
    file: IO[bytes], card: DatasetCard, images: Iterable[tuple[str, bytes]]
) -> None:
    """Write the pack of a card and its images ``(name, clean bytes)``; same input, same bytes."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(CARD_FILE, _EPOCH), card.model_dump_json())
        for name, data in images:
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data)
