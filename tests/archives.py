"""Small archives and pictures of the kinds that people send."""

import io
import zipfile
from collections.abc import Mapping

import numpy as np
from PIL import Image

from services.worker.datasets.archives import ArchiveLimits
from services.worker.datasets.importing import Intake, take_in
from services.worker.datasets.layouts.recognize import Wanted
from shared.images import ImageLimits


def picture(
    seed: int,
    *,
    size: tuple[int, int] = (96, 96),
    orientation: int | None = None,
    file_format: str = "PNG",
) -> bytes:
    """Return a picture like no other, with an EXIF orientation if one is given."""
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    drawn = Image.fromarray(small).resize(size, Image.Resampling.NEAREST)
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    buffer = io.BytesIO()
    drawn.save(buffer, file_format, exif=exif)
    return buffer.getvalue()


def zipped(files: Mapping[str, bytes]) -> bytes:
    """Return a ZIP of these files, its names declared as UTF-8 where they are not ASCII."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, data in files.items():
            archive.writestr(path, data)
    return buffer.getvalue()


def zipped_raw(files: Mapping[bytes, bytes]) -> bytes:
    """Return a ZIP whose names are these bytes, their encoding undeclared, as old programs do."""
    stand_ins = {chr(ord("A") + place) * len(name): name for place, name in enumerate(files)}
    data = zipped({stand_in: files[name] for stand_in, name in stand_ins.items()})
    for stand_in, name in stand_ins.items():
        data = data.replace(stand_in.encode(), name)
    return data


def taken(files: Mapping[str, bytes], *, layout: Wanted | None = None) -> Intake:
    """Take in a ZIP of these files."""
    return taken_in(zipped(files), layout=layout)


def taken_in(data: bytes, *, layout: Wanted | None = None) -> Intake:
    """Take in an archive."""
    return take_in(io.BytesIO(data), layout=layout, images=ImageLimits(), archive=ArchiveLimits())


def boxes_of(intake: Intake) -> dict[str, list[tuple[str, float, float, float, float]]]:
    """Return the boxes of each picture, rounded to a hundredth of a pixel."""
    return {
        item.path: [
            (box.label, *(round(value, 2) for value in (box.x0, box.y0, box.x1, box.y1)))
            for box in item.boxes
        ]
        for item in intake.items
    }
