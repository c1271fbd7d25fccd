"""The constraints pin all that is installed, and the Makefile says what it can do."""

import re
import subprocess
import tomllib
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LINES = [
    line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")
]
PINS = dict(line.split("==") for line in LINES)


def test_every_line_is_one_exact_version() -> None:
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.+]*", line) for line in LINES)
    assert sorted(PINS) == list(PINS)
    assert len(PINS) == len(LINES)


def wanted() -> set[str]:
    """Everything that the extras need, directly or not, by what is installed here."""
    extras = PROJECT["optional-dependencies"]
    queue = [*PROJECT["dependencies"], *extras["api"], *extras["worker"], *extras["dev"]]
    seen: set[tuple[str, frozenset[str]]] = set()
    while queue:
        requirement = Requirement(queue.pop())
        name = canonicalize_name(requirement.name)
        key = (name, frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        try:
            further = [Requirement(line) for line in requires(name) or []]
        except PackageNotFoundError:
            continue
        for child in further:
            environments = [{"extra": extra} for extra in (requirement.extras or {""})]
            if child.marker is None or any(map(child.marker.evaluate, environments)):
                queue.append(f"{child.name}[{','.join(child.extras)}]")
    return {name for name, _ in seen}


def test_all_that_is_installed_is_pinned_to_the_version_that_is_tested() -> None:
    names = wanted()
    assert names - PINS.keys() == set()
    assert {name: version(name) for name in names} == {name: PINS[name] for name in names}


def test_the_peers_of_the_benchmarks_are_pinned() -> None:
    peers = {canonicalize_name(name) for name in PROJECT["optional-dependencies"]["bench"]}
    assert peers <= PINS.keys()


def test_the_project_says_what_not_where() -> None:
    for file in ("pyproject.toml", "constraints.txt", "Makefile", ".ci/run", "Dockerfile.api"):
        text = (ROOT / file).read_text()
        assert not re.search(r"(?i)index-url|find-links|trusted-host", text)


def test_make_help_names_every_command() -> None:
    done = subprocess.run(
        ["make", "--no-print-directory", "help"],
        check=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    assert set(re.findall(r"make ([a-z-]+)  ", done.stdout)) == set(phony.group(1).split())
