"""The images: pinned bases, an account without rights, no torch in the API's."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
IMAGES = ["Dockerfile.api", "Dockerfile.worker"]
each_image = pytest.mark.parametrize("name", IMAGES)


def final_stage(name: str) -> str:
    return "FROM" + (ROOT / name).read_text().rpartition("\nFROM")[2]


@each_image
def test_hadolint_finds_nothing(name: str) -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, name], check=False, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@each_image
def test_bases_are_pinned_to_an_exact_version(name: str) -> None:
    bases = re.findall(r"^FROM (\S+)", (ROOT / name).read_text(), re.MULTILINE)
    assert len(bases) == 2
    assert all(re.fullmatch(r"python:3\.11\.\d+-slim-bookworm", base) for base in bases)


@each_image
def test_the_process_has_no_rights_and_a_fixed_account(name: str) -> None:
    assert re.findall(r"^USER (.*)", final_stage(name), re.MULTILINE) == ["10001:10001"]


@each_image
def test_health_is_checked(name: str) -> None:
    assert "HEALTHCHECK" in final_stage(name)


@each_image
def test_everything_is_installed_at_the_pinned_versions(name: str) -> None:
    text = (ROOT / name).read_text().replace("\\\n", " ")
    installs = re.findall(r"pip --python \S+ install (.*)", text)
    assert installs
    assert all("--constraint constraints.txt" in line or "--no-deps" in line for line in installs)


@each_image
def test_no_tools_for_development_are_inside(name: str) -> None:
    assert "[dev" not in (ROOT / name).read_text()
    assert "pip" not in final_stage(name)
    assert "apt-get" not in final_stage(name)


@each_image
def test_all_that_is_written_goes_to_the_temporary_folder(name: str) -> None:
    stage = final_stage(name)
    assert "HOME=/tmp" in stage
    assert "BAUTA_DATA_DIR=/tmp/" in stage
    caches = {"XDG_CACHE_HOME", "NUMBA_CACHE_DIR", "MPLCONFIGDIR"}
    assert all(f"{cache}=/tmp/" in stage for cache in caches) or name == "Dockerfile.api"


def test_the_api_image_has_neither_torch_nor_the_worker() -> None:
    text = (ROOT / "Dockerfile.api").read_text()
    copied = re.findall(r"^COPY (.*)", text, re.MULTILINE)
    # Of the worker only the models' cards and weights.
    code = [line for line in copied if not line.startswith("services/worker/models/bundled ")]
    assert not any("worker" in line or line.startswith("services ") for line in code)
    bundled = (ROOT / "services/worker/models/bundled").rglob("*.*")
    assert {path.suffix for path in bundled} == {".json", ".safetensors", ".md"}
    assert "'.[api]'" in text


def test_what_the_api_image_runs_needs_nothing_that_it_lacks() -> None:
    program = """
import importlib.abc, sys

class Lacking(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in {"torch", "numpy", "cv2", "scipy", "numba"} or (
            name.startswith("services.worker")
        ):
            raise ModuleNotFoundError(f"the image has no {name}")

sys.meta_path.insert(0, Lacking())
import services.api.app, services.api.main, services.cli, services.keeper.keeper
import shared.db.migrate
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_only_what_the_images_need_is_sent_to_the_builder() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    kept = {line[1:] for line in lines if line.startswith("!")}
    assert "**" in lines
    assert kept == {"pyproject.toml", "constraints.txt", "services", "shared"}
