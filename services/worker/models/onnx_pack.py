"""ONNX files as the registry keeps them: bytes in a safetensors file, the form of all weights."""

import json

ARCHITECTURE = "onnx"
TENSOR = "network.onnx"


def pack_onnx(data: bytes) -> bytes:
    """Return a safetensors file with one array of bytes: the ONNX file."""
    entry = {"dtype": "U8", "shape": [len(data)], "data_offsets": [0, len(data)]}
    header = json.dumps({TENSOR: entry}).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data
