"""Seam carving: content-aware resizing, fast enough to stand before a classifier."""

from services.worker.defenses.seam_carving.carve import Carved, Energy, Order, carve
from services.worker.defenses.seam_carving.picture import draw_seams
from services.worker.defenses.seam_carving.protect import protect

__all__ = ["Carved", "Energy", "Order", "carve", "draw_seams", "protect"]
