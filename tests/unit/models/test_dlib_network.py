"""dlib's network: the same answers as dlib's own, and a reader that takes no other file."""

from pathlib import Path

import dlib
import numpy as np
import pytest
import torch
from skimage import data

from services.worker.faces.alignment import FRAME, align, cut_frame
from services.worker.faces.detection import FaceDetector
from services.worker.models.dlib_network import DIMENSIONS, SIDE, DlibResNet, read_dlib
from services.worker.models.recognizers import build_recognizer, recognizer_of
from services.worker.models.registry import find_models

NAME = "dlib-resnet-v1"
FILE = "dlib_face_recognition_resnet_model_v1.dat"
POINTS = "shape_predictor_5_face_landmarks.dat"


@pytest.fixture(scope="module")
def chips() -> "list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]":
    """Crops of 150 px: parts of a portrait, a dark one, and noise."""
    portrait = data.astronaut()
    places = ((20, 145), (30, 130), (200, 200), (0, 160))
    parts = [portrait[y : y + SIDE, x : x + SIDE] for y, x in places]
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    return [np.ascontiguousarray(part) for part in (*parts, parts[0] // 3, noise)]


@pytest.mark.shared_data
def test_the_shipped_weights_answer_as_dlib_does(
    shared_data: Path, chips: "list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]"
) -> None:
    weights = shared_data.parent / "weights" / FILE
    theirs = dlib.face_recognition_model_v1(str(weights))
    expected = np.array([np.array(theirs.compute_face_descriptor(chip)) for chip in chips])
    faces = torch.from_numpy(np.stack(chips)).permute(0, 3, 1, 2).float() / 255

    shipped = recognizer_of(*find_models()[NAME])
    exact = build_recognizer("dlib_resnet", identifier="exact").eval()
    exact.network.load_state_dict(read_dlib(weights.read_bytes()))

    with torch.inference_mode():
        assert np.abs(exact.raw(faces).numpy() - expected).max() < 1e-5
        assert np.abs(shipped.raw(faces).numpy() - expected).max() < 1e-3


@pytest.mark.shared_data
def test_our_crop_is_close_to_the_one_that_dlib_cuts(shared_data: Path) -> None:
    """Of one face: dlib takes our crop and its own for the same person by far."""
    weights = shared_data.parent / "weights"
    portrait = data.astronaut()
    theirs = dlib.face_recognition_model_v1(str(weights / FILE))
    points = dlib.shape_predictor(str(weights / POINTS))
    found = FaceDetector().detect(portrait)[0]
    box = dlib.rectangle(*(round(value) for value in found.box))
    chip = dlib.get_face_chip(portrait, points(portrait, box), size=SIDE, padding=0.25)
    frame = cut_frame(portrait, align(found.landmarks))
    shipped = recognizer_of(*find_models()[NAME])

    with torch.inference_mode():
        frames = torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255
        ours = shipped.raw(shipped.crops(frames))[0].numpy()

    assert frame.shape[0] == FRAME
    assert np.linalg.norm(ours - np.array(theirs.compute_face_descriptor(chip))) < 0.3  # of 0.6


def serialized(network: DlibResNet) -> bytes:
    """Write a network's parameters as dlib does, the affine layers doing nothing."""
    parts = []
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            bias = torch.zeros(module.out_channels) if module.bias is None else module.bias
            flat = torch.cat([module.weight.flatten(), bias])
            affine = torch.cat([torch.ones(len(bias)), torch.zeros(len(bias))])
            parts += [_tensor(flat, (len(flat), 1, 1, 1)), _tensor(affine, (len(affine), 1, 1, 1))]
    last = network.linear.weight.T
    return b"noise".join([b"serialized", *parts, _tensor(last, (*last.shape, 1, 1))])


def _tensor(values: torch.Tensor, dimensions: tuple[int, ...]) -> bytes:
    header = b"\x01\x02"
    for size in dimensions:
        raw = size.to_bytes(4, "little").rstrip(b"\0")
        header += bytes([len(raw)]) + raw
    return header + values.detach().contiguous().numpy().astype("<f4").tobytes()


def test_reads_what_was_written_in_dlibs_format() -> None:
    torch.manual_seed(0)
    network = DlibResNet()

    state = read_dlib(serialized(network))

    assert state.keys() == network.state_dict().keys()
    for name, value in network.state_dict().items():
        assert torch.equal(state[name], value)


def test_refuses_another_file_and_values_that_are_not_finite() -> None:
    torch.manual_seed(0)
    network = DlibResNet()
    whole = serialized(network)

    for data_ in (b"", b"\x01\x02" * 50, whole[: len(whole) // 2], whole[:-4]):
        with pytest.raises(ValueError, match="not dlib's face recognition network"):
            read_dlib(data_)
    network.stem.weight.data[0, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        read_dlib(serialized(network))


def test_every_size_of_frame_gives_the_same_crop() -> None:
    """The middle of a frame holds all that it looks at; gradients reach only that."""
    recognizer = build_recognizer("dlib_resnet", identifier="x").eval()
    frames = torch.rand(2, 3, FRAME, FRAME, generator=torch.Generator().manual_seed(0))
    margin = (FRAME - recognizer.frame_side) // 2

    whole = recognizer.crops(frames.requires_grad_())
    inner = recognizer.crops(frames[..., margin:-margin, margin:-margin])
    whole.sum().backward()

    assert whole.shape == (2, 3, SIDE, SIDE)
    assert torch.allclose(whole, inner, atol=1e-4)
    assert frames.grad is not None
    reached = frames.grad.abs().sum((0, 1)) > 0
    rows = torch.where(reached.any(1))[0]
    assert abs(int(rows.min()) - 45.7) < 1.5
    assert abs(int(rows.max()) - (45.7 + 97.7)) < 1.5
    assert recognizer.raw(whole).shape == (2, DIMENSIONS)
