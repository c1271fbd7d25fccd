"""Face detection, alignment, recognition and cloaking."""

from typing import TYPE_CHECKING

from services.worker.public import lazy

if TYPE_CHECKING:
    from services.worker.faces.alignment import align, cut_frame
    from services.worker.faces.boxes import overlap
    from services.worker.faces.cloaking.apply import apply_cloaks
    from services.worker.faces.cloaking.config import CloakConfig
    from services.worker.faces.cloaking.optimize import Subject, cloak_faces
    from services.worker.faces.crops import crop_faces
    from services.worker.faces.detection import FaceDetector
    from services.worker.faces.face import Face

__all__ = [
    "CloakConfig",
    "Face",
    "FaceDetector",
    "Subject",
    "align",
    "apply_cloaks",
    "cloak_faces",
    "crop_faces",
    "cut_frame",
    "overlap",
]

__getattr__ = lazy(
    __name__,
    {
        "alignment": (
            "align",
            "cut_frame",
        ),
        "boxes": ("overlap",),
        "cloaking.apply": ("apply_cloaks",),
        "cloaking.config": ("CloakConfig",),
        "cloaking.optimize": (
            "Subject",
            "cloak_faces",
        ),
        "crops": ("crop_faces",),
        "detection": ("FaceDetector",),
        "face": ("Face",),
    },
)
