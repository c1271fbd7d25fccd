"""What documents promise: each test that they name exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ["docs/reliability.md", "docs/security.md"]
# `path::test`, `test`, or the end of a name after an ellipsis: of the file or test named before.
_NAMED = re.compile(r"`([^`\s]*\btest_[^`\s]*|…::[^`\s]*|…_[^`\sA-Z]*)`")
_DEFINED = re.compile(r"^(?:async )?def (test_\w+)", re.MULTILINE)


def exists(word: str, tests: dict[str, set[str]]) -> bool:
    """Whether a document's word stands for a test of ``tests``: names by their file."""
    file, _, name = word.partition("::") if ".py" in word else ("", "", word.removeprefix("…::"))
    names = [found for path, found in tests.items() if not file or path.endswith(f"/{file}")]
    if name.startswith("…"):
        return any(one.endswith(name[1:]) for found in names for one in found)
    return bool(names) and (not name or any(name in found for found in names))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_each_test_that_a_document_names_exists(document: str) -> None:
    tests = {
        path.as_posix(): set(_DEFINED.findall(path.read_text()))
        for path in (ROOT / "tests").rglob("test_*.py")
    }
    said = _NAMED.findall((ROOT / document).read_text())

    assert len(said) > 20
    assert [word for word in said if not exists(word, tests)] == []
    assert not exists("test_outages.py::test_no_such", tests)
    assert not exists("no/test_such.py", tests)
