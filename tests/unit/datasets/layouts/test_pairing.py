"""Which photo an annotation means."""

import pytest

from services.worker.datasets.layouts.pairing import PhotoIndex, parts_of

PHOTOS = ("images/door/1.png", "images/hall/1.png", "Images/2.PNG", "train/3.png", "valid/3.png")


@pytest.mark.parametrize(
    ("stated", "beside", "found"),
    [
        ("2.png", "a.json", ["Images/2.PNG"]),
        ("C:\\data\\2.png", "a.json", ["Images/2.PNG"]),
        ("/data/upload/%32.png?d=1", "a.json", []),
        ("/data/upload/%32.png", "a.json", ["Images/2.PNG"]),
        ("door/1.png", "annotations/a.json", ["images/door/1.png"]),
        ("1.png", "annotations/a.json", ["images/door/1.png", "images/hall/1.png"]),
        ("1.png", "images/hall/a.json", ["images/hall/1.png"]),
        ("3.png", "valid/a.json", ["valid/3.png"]),
        ("3.png", "test/a.json", []),
        ("4.png", "a.json", []),
        ("", "a.json", []),
        ("../..", "a.json", []),
    ],
)
def test_a_stated_path_is_looked_for(stated: str, beside: str, found: list[str]) -> None:
    assert PhotoIndex(PHOTOS).find(stated, beside=beside) == found


@pytest.mark.parametrize(
    ("stated", "parts"),
    [
        ("a/b.png", ["a", "b.png"]),
        ("..\\a\\b.png", ["a", "b.png"]),
        ("/data/upload/b.png", ["data", "upload", "b.png"]),
        ("C:\\a\\b.png", ["a", "b.png"]),
        ("\\\\server\\share\\b.png", ["server", "share", "b.png"]),
        ("s3://bucket/b.png?x=1", ["bucket", "b.png"]),
        ("./b.png", ["b.png"]),
    ],
)
def test_paths_of_other_machines(stated: str, parts: list[str]) -> None:
    assert parts_of(stated) == parts


def test_thousands_of_photos_of_one_name_take_no_time_each() -> None:
    index = PhotoIndex(f"{number}/1.png" for number in range(5000))
    assert all(len(index.find("1.png", beside="a.json")) > 1 for _ in range(200))
    assert index.find("4999/1.png", beside="a.json") == ["4999/1.png"]
