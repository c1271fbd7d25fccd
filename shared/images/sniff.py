"""Tells formats by their first bytes, never by a name or a declared type."""

import re
import struct

from shared.images.limits import ImageRejectedError, unsupported

READ = "JPEG, PNG, WebP, HEIC, AVIF, TIFF, GIF and BMP"
_SIGNATURES = (
    (b"\xff\xd8", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"BM", "BMP"),
)
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_AVIF_BRANDS = {b"avif", b"avis"}
_CONTAINER_BRANDS = {b"mif1", b"msf1", b"mif2", b"1pic"}
_MAX_BRANDS = 64

# What people send that is not read, and what to do instead.
_UNREAD = (
    (rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image"),
    (rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (rb"II\xbc", "a JPEG XR image"),
    (rb"II\+\0|MM\0\+", "a BigTIFF"),
    (rb"II\*\0.{4}CR|IIU\0|IIRO|IIRS|MMOR|FUJIFILMCCD-RAW|\0MRM", "a camera's raw file"),
    (rb".{4}ftypcrx ", "a camera's raw file"),
    (rb"8BPS", "a Photoshop document"),
    (rb"\0\0\x01\0", "an icon (ICO)"),
    (rb"v/1\x01", "an OpenEXR image"),
    (rb"#\?(?:RADIANCE|RGBE)", "a Radiance HDR image"),
    (rb"P[1-7]\s|P[Ff]\s", "a PNM image"),
    (rb"gimp xcf", "a GIMP document"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "a PostScript file"),
    (rb"RIFF.{4}AVI |.{4}ftyp(?:isom|iso\d|mp4\d|M4V |qt  |avc1|3g)|.{4}moov", "a video"),
    (rb"\x1a\x45\xdf\xa3|OggS|FLV\x01|\0\0\x01[\xb3\xba]", "a video"),
    (rb"PK\x03\x04|Rar!|7z\xbc\xaf|\x1f\x8b|BZh|\xfd7zXZ", "an archive"),
    (rb"version https://git-lfs", "a Git LFS pointer, and not the image that it stands for"),
)
_UNREAD_RE = [(re.compile(pattern, re.DOTALL), name) for pattern, name in _UNREAD]
_PDF = re.compile(rb"%PDF-\d")
_MARKUP = re.compile(rb"<(?:\w+:)?svg[\s>]", re.IGNORECASE)
_PAGE = re.compile(rb"<(?:!doctype\s+html|html)[\s>]", re.IGNORECASE)
_TEXT_START = re.compile(rb"(?:\xef\xbb\xbf)?\s*<")
_LOOK_BYTES = 4096


def sniff(data: bytes) -> str | None:
    """Return the format of an image that is read, or ``None``."""
    if data[:4] == b"II*\0" and data[8:10] == b"CR":  # Canon's raw files are TIFFs
        return None
    for signature, name in _SIGNATURES:
        if data.startswith(signature):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    return _by_brand(data)


def refuse_unread(data: bytes) -> ImageRejectedError:
    """Build the refusal of bytes that are no image that is read; it names what they are."""
    name = _unread_name(data)
    if name is None:
        return unsupported(f"The file is not an image that is read, which are {READ}.")
    return unsupported(f"The file is {name}, which is not read. Send {READ}.")


def _by_brand(data: bytes) -> str | None:
    """Tell HEIC and AVIF by the brands of their file type box (ISO 14496-12, clause 4.3)."""
    if data[4:8] != b"ftyp":
        return None
    (size,) = struct.unpack(">I", data[:4])
    end = min(size, len(data), 16 + 4 * _MAX_BRANDS)
    brands = [data[8:12], *(data[at : at + 4] for at in range(16, end - 3, 4))]
    if brands[0] in _AVIF_BRANDS:
        return "AVIF"
    if brands[0] in _HEIC_BRANDS:
        return "HEIC"
    if brands[0] in _CONTAINER_BRANDS:
        return "AVIF" if _AVIF_BRANDS & set(brands) else "HEIC"
    return None


def _unread_name(data: bytes) -> str | None:
    for pattern, name in _UNREAD_RE:
        if pattern.match(data):
            return name
    head = data[:_LOOK_BYTES]
    if _PDF.search(head[:1024]):  # readers look for its mark in the first kilobyte
        return "a PDF"
    if _TEXT_START.match(head):
        if _MARKUP.search(head):
            return "an SVG drawing"
        if _PAGE.search(head):
            return "a web page, and not the image that it shows"
    return None
