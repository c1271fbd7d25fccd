"""The device a worker computes on."""

import os

import torch


def choose_device(wanted: str, *, threads: int | None = None) -> torch.device:
    """Return the device ``wanted`` (``auto``: a GPU if there is one) and set CPU threads.

    Raises ``ValueError`` for a GPU that is not there.
    """
    torch.set_num_threads(threads or os.cpu_count() or 1)
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(wanted)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"BAUTA_DEVICE={wanted}, but {torch.cuda.device_count()} GPUs are here")
    return device
