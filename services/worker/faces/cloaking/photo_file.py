"""Photos as files: opened for a change of pixels, and written as they came.

Dimensions, format, color profile, orientation, transparency, gray and a JPEG's tables and sampling,
component by component, stay.
Colors are not converted: recognizers see the file's own RGB values, and the change is made to them.
"""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.worker.faces.cloaking.jpeg_writer import write_jpeg
from services.worker.faces.crops import Pixels
from shared.images import to_rgb
from shared.images.jpeg_frame import JpegFrame, read_frame

_ORIENTATION = 0x0112
_LOSSY_QUALITY = 95  # of a lossy WebP: nothing in the file tells what its source was written with
_SIXTEEN = 257  # 16-bit steps of one 8-bit step
_SAMPLINGS = {
    (1.0, 1.0): 0,
    (2.0, 1.0): 1,
    (2.0, 2.0): 2,
}  # Pillow's numbers, by how color is shrunk
MEDIA_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}


@dataclass(frozen=True)
class PhotoFile:
    """A photo's pixels, upright uint8 RGB ``(H, W, 3)``, and what it takes to write them again.

    ``notes`` say what cannot stay as it was.
    """

    pixels: Pixels
    format: str
    gray: bool
    lossless: bool
    notes: tuple[str, ...]
    _stored: NDArray[Any]
    _orientation: int
    _settings: dict[str, Any]
    _frame: JpegFrame | None = None  # of a JPEG whose sampling Pillow does not write

    @property
    def media_type(self) -> str:
        """The type of what ``write`` returns."""
        return MEDIA_TYPES[self.format]

    def write(self, changed: Pixels) -> bytes:
        """Write changed pixels, of the shape of ``pixels``.

        Raises ``ValueError`` for another shape, or colors in a gray photo's change.
        """
        if changed.shape != self.pixels.shape:
            raise ValueError(f"{changed.shape} is not {self.pixels.shape}")
        if self.gray and not (changed == changed[..., :1]).all():
            raise ValueError("the change of a gray photo has no color")
        colors = as_stored(changed, self._orientation)
        if self._stored.dtype == np.uint16:
            before = as_stored(self.pixels, self._orientation)
            samples = _moved(self._stored, before[..., 0], colors[..., 0])
        else:
            samples = _with_colors(self._stored, colors)
        image = Image.fromarray(samples)
        if self._frame is not None:
            return write_jpeg(
                image,
                self._frame,
                profile=self._settings.get("icc_profile"),
                exif=self._settings.get("exif"),
            )
        buffer = io.BytesIO()
        image.save(buffer, self.format, **self._settings)
        return buffer.getvalue()


def open_photo(data: bytes, orientation: int = 1) -> PhotoFile:
    """Open a JPEG, PNG or WebP that passed ``shared.images.sanitize``.

    A CMYK photo is opened as RGB, and color of 16 bits as 8; ``notes`` say so. Raises
    ``ValueError`` for other formats.
    """
    image: Image.Image = Image.open(io.BytesIO(data))
    kind = str(image.format)
    if kind not in MEDIA_TYPES:
        raise ValueError(f"{kind} is not a format that is written")
    settings = _settings(image, data, orientation)
    image.load()
    notes: list[str] = []
    frame = read_frame(data) if kind == "JPEG" else None
    if image.mode == "CMYK":
        notes.append("a CMYK photo is delivered as RGB (sRGB)")
        image = to_rgb(image)
        settings.pop("icc_profile", None)
        # Its tables are for inks, not for brightness and color.
        settings |= {"quality": _LOSSY_QUALITY, "subsampling": 0}
        frame = None
    elif frame is not None and (arranged := _arrangement(frame)) is not None:
        settings |= arranged
        frame = None
    if frame is not None and frame.progressive:
        notes.append("a progressive JPEG of this color sampling is delivered as a baseline one")
    if image.mode == "P":
        notes.append("a photo with a palette is delivered in full color")
    if image.mode == "1":
        notes.append("a black and white photo is delivered in gray")
    if kind == "PNG" and _sixteen_bit_color(data):
        notes.append("16-bit color is delivered with 8 bits a channel")
    stored = _samples(image)
    gray = stored.ndim == 2 or stored.shape[2] == 2
    return PhotoFile(
        pixels=upright(_as_rgb(stored), orientation),
        format=kind,
        gray=gray,
        lossless=kind == "PNG" or (kind == "WEBP" and bool(settings.get("lossless"))),
        notes=tuple(notes),
        _stored=stored,
        _orientation=orientation,
        _settings=settings,
        _frame=frame,
    )


def _settings(image: Image.Image, data: bytes, orientation: int) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    profile = image.info.get("icc_profile")
    if profile:
        settings["icc_profile"] = profile
    if orientation != 1:
        exif = Image.Exif()
        exif[_ORIENTATION] = orientation
        settings["exif"] = exif.tobytes()
    if image.format == "WEBP":
        settings |= (
            {"lossless": True, "exact": True}
            if _is_lossless_webp(data)
            else {"quality": _LOSSY_QUALITY}
        )
    return settings


def _arrangement(frame: JpegFrame) -> dict[str, Any] | None:
    """Return how Pillow writes these tables and this sampling; ``None`` where it cannot."""
    components = frame.components
    tables = [list(one.table) for one in components if one.table is not None]
    while len(tables) > 1 and tables[-1] == tables[-2]:
        tables.pop()  # the last of the list is for all components that follow
    settings: dict[str, Any] = {
        "qtables": tables,
        "progressive": frame.progressive,
        "restart_marker_blocks": frame.restart_interval,
    }
    if len(components) == 1:
        return settings
    bright, *colors = [(one.horizontal, one.vertical) for one in components]
    across, down = bright[0] / colors[0][0], bright[1] / colors[0][1]
    sampling = _SAMPLINGS.get((across, down))
    if sampling is None or colors[0] != colors[1] or (frame.is_rgb and sampling):
        return None
    return settings | {"subsampling": sampling, "keep_rgb": frame.is_rgb}


def _is_lossless_webp(data: bytes) -> bool:
    """Whether a WebP's chunks have lossless pixels (RFC 9649, section 2)."""
    position = 12
    while position + 8 <= len(data):
        if data[position : position + 4] == b"VP8L":
            return True
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        position += 8 + length + length % 2
    return False


def _sixteen_bit_color(data: bytes) -> bool:
    """Whether a PNG's header says 16 bits and color: its reader keeps 8 of them."""
    return data[24] == 16 and data[25] in (2, 6)


def _samples(image: Image.Image) -> NDArray[Any]:
    """Return the samples that are written again: gray, gray and alpha, RGB, or RGBA."""
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    if image.mode in ("1", "L") and not image.has_transparency_data:
        return np.array(image.convert("L"))
    if image.mode in ("1", "L", "LA", "La"):
        return np.array(image.convert("LA"))
    return np.array(image.convert("RGBA" if image.has_transparency_data else "RGB"))


def _as_rgb(stored: NDArray[Any]) -> Pixels:
    if stored.dtype == np.uint16:
        stored = np.rint(stored / _SIXTEEN)
    if stored.ndim == 2:
        stored = stored[..., None]
    colors = stored[..., :1] if stored.shape[2] <= 2 else stored[..., :3]
    return np.ascontiguousarray(np.broadcast_to(colors, (*colors.shape[:2], 3)), dtype=np.uint8)


def _with_colors(stored: NDArray[Any], colors: Pixels) -> NDArray[Any]:
    """Return the samples with other colors and the same transparency."""
    if stored.ndim == 2:
        return colors[..., 0]
    if stored.shape[2] == 3:
        return colors
    count = stored.shape[2] - 1
    return np.concatenate([colors[..., :count], stored[..., count:]], 2)


def _moved(stored: NDArray[Any], before: Pixels, after: Pixels) -> NDArray[Any]:
    """Move 16-bit samples as far as their 8-bit copies moved."""
    wide = stored.astype(np.int32) + (after.astype(np.int32) - before) * _SIXTEEN
    return np.asarray(wide.clip(0, 65535).astype(np.uint16))


def upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn stored pixels ``(H, W, …)`` as EXIF's orientation, 1 … 8, asks."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def as_stored(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn upright pixels back: the inverse of ``upright``."""
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    return np.ascontiguousarray(pixels)
