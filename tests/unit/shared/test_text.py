"""Text that stores and readers can take."""

import json

import pytest

from shared.problems import Problem
from shared.text import bounded, dumps, fit, is_fit, loads, unfit

HALF = "\ud800"


@pytest.mark.parametrize(
    ("document", "pointers"),
    [
        ("a", []),
        ("ä 🙂 \\ud800 \\u0000", []),  # as text, spelled out: fit
        (HALF, [""]),
        ("\x00", [""]),
        ({"a": {"b/c~": ["x", HALF, "\udfff"]}}, ["/a/b~1c~0/1", "/a/b~1c~0/2"]),
        ({f"n{HALF}": HALF}, ["/n\\ud800"]),
        ([1, None, True, {"a": ("\x00",)}], ["/3/a/0"]),
    ],
)
def test_what_is_no_text_is_found_where_it_is(document: object, pointers: list[str]) -> None:
    assert list(unfit(document)) == pointers
    assert is_fit(document) is not pointers or not pointers
    assert is_fit(document) == (not pointers)
    json.dumps(fit(document), ensure_ascii=False).encode()
    assert is_fit(fit(document))


def test_documents_as_deep_as_a_parser_takes_them_are_searched() -> None:
    document = json.loads('{"a":' * 900 + '"\\ud800"' + "}" * 900)

    assert list(unfit(document)) == ["/a" * 900]


def test_what_the_database_gets_and_gives_is_text() -> None:
    document = {"a": [HALF, "\x00", "🙂"], HALF: 1}
    clean = {"a": ["\ufffd", "\ufffd", "🙂"], "\ufffd": 1}

    assert json.loads(dumps(document)) == clean
    assert loads(json.dumps(document)) == clean
    assert loads(json.dumps(document).encode()) == clean
    assert loads(dumps({"a": "🙂"})) == {"a": "🙂"}


def test_long_strings_and_lists_are_cut_and_the_length_is_said() -> None:
    cut = bounded({"a": "x" * 5000, "b": list(range(500)), "c": "short", "d" * 5000: 1})

    assert cut["a"] == "x" * 1000 + "… (cut: 5000 characters in all)"
    assert bounded(cut) == cut
    assert cut["b"] == list(range(100))
    assert cut["c"] == "short"
    assert max(map(len, cut)) == 1000


def test_a_problem_never_quotes_without_end() -> None:
    problem = Problem("invalid-model", "x" * 20_000_000, errors=[{"detail": HALF}] * 1000)

    document = problem.document()

    assert "20000000 characters" in document["detail"]
    assert len(json.dumps(document, ensure_ascii=False).encode()) < 20_000
    assert document["status"] == 422
