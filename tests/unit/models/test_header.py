"""Headers of safetensors files, before any tensor is read."""

import io
import json
import struct
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from services.worker.models.header import (
    MOST_HEADER_BYTES,
    ModelRejectedError,
    TensorHeader,
    compare,
    read_header,
    shown,
)


def file(document: Any, *, size: int | None = None) -> bytes:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    return struct.pack("<Q", len(data) if size is None else size) + data


def test_it_reads_what_safetensors_writes() -> None:
    tensors = {"a": torch.zeros(2, 3), "b.c": torch.zeros(4, dtype=torch.int64)}
    data = save(tensors, metadata={"format": "pt"})
    assert read_header(io.BytesIO(data)) == {
        "a": TensorHeader("F32", (2, 3)),
        "b.c": TensorHeader("I64", (4,)),
    }


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (lambda: b"", "fewer than 8 bytes"),
        (lambda: b"\x80\x04}q\x00.", "fewer than 8 bytes"),
        (lambda: file({}, size=2**63), "its header would have 9223372036854775808 bytes"),
        (lambda: file({}, size=MOST_HEADER_BYTES + 1), "its header would have"),
        (lambda: file({}, size=100), "ends within its header"),
        (lambda: file(b"{"), "is no JSON"),
        (lambda: file(b"[" * 100_000), "is no JSON"),
        (lambda: file(b"\xff\xfe"), "is no JSON"),
        (lambda: file([]), "is no object"),
        (lambda: file({"a": 3}), "does not say what a is"),
        (lambda: file({"a": {"dtype": "F32", "shape": [2.5]}}), "does not say what a is"),
        (lambda: file({"a": {"dtype": "F32", "shape": [1] * 9}}), "does not say what a is"),
        (
            lambda: file({str(n): {"dtype": "F32", "shape": []} for n in range(20_001)}),
            "20001 tensors",
        ),
    ],
)
def test_other_files_are_refused(data: Callable[[], bytes], says: str) -> None:
    with pytest.raises(ModelRejectedError, match=says):
        read_header(io.BytesIO(data()))


def test_long_names_are_cut_and_their_length_is_said() -> None:
    name = "x" * 1_000_000
    with pytest.raises(ModelRejectedError, match=r"\(1000000 characters\) too many") as caught:
        compare({name: TensorHeader("F32", ())}, {})
    assert len(str(caught.value)) < 300
    assert shown("a\ud800b") == "'a\\ud800b'"


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for candidate in (data, struct.pack("<Q", len(data)) + data):
        try:
            read_header(io.BytesIO(candidate))
        except ModelRejectedError as error:
            str(error).encode()
