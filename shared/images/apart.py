"""Decodes HEIC and AVIF in a process of its own, with bounds on memory and time.

Their size is read from the container, but a video decoder believes the bitstream, and a fault in
such a decoder ends its process. Here that costs one photo.
"""

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from shared.images.limits import ImageLimits, ImageRejectedError, corrupt, share

_ROOT = Path(__file__).resolve().parents[2]
_SECONDS = 60
_MAX_BOXES = 1000
# -I leaves out the environment and the working folder; only this package's root is added.
_RUN = "import sys; sys.path.insert(0, sys.argv[1]); from shared.images.foreign import main; main()"


@dataclass(frozen=True)
class Converted:
    """A picture as a JPEG or PNG; ``notes`` say what it was and what was left out."""

    data: bytes
    media_type: str
    width: int
    height: int
    notes: tuple[str, ...]


def convert_apart(data: bytes, found: str, limits: ImageLimits) -> Converted:
    """Convert a HEIC or AVIF (``found``) to an upright JPEG, or PNG where it is transparent.

    Raises ``ImageRejectedError``: also where the decoder crashes, or takes more than its memory
    (some 24 bytes a pixel of the limit) or a minute.
    """
    command = [sys.executable, "-I", "-W", "ignore", "-c", _RUN]
    command += [str(_ROOT), found, json.dumps(asdict(limits))]
    try:
        done = subprocess.run(  # noqa: S603 - this interpreter, and no word of the upload
            command,
            input=data,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_SECONDS,
            check=False,
            env={},  # secrets of the service are none of a decoder's business
        )
    except subprocess.TimeoutExpired as error:
        raise corrupt("it takes more than a minute to decode") from error
    head, separator, picture = done.stdout.partition(b"\n")
    if done.returncode != 0 or not separator:
        raise corrupt("its decoder failed")
    said = json.loads(head)
    if "slug" in said:
        missing = _missing(data)
        if said["slug"] == "corrupt-image" and missing > 0:
            raise corrupt(f"it is cut off, and {share(missing)}")
        raise ImageRejectedError(said["slug"], said["detail"])
    return Converted(picture, said["media_type"], said["width"], said["height"], (*said["notes"],))


def _missing(data: bytes) -> float:
    """Return which share of its last box a file lacks (ISO 14496-12, clause 4.2)."""
    position = 0
    for _ in range(_MAX_BOXES):
        if position + 16 > len(data):
            break
        size = int.from_bytes(data[position : position + 4], "big")
        if size == 1:
            size = int.from_bytes(data[position + 8 : position + 16], "big")
        if size < 8:  # 0: to the file's end
            break
        if position + size > len(data):
            return 1 - (len(data) - position) / size
        position += size
    return 0.0
