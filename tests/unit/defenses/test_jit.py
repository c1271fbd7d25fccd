"""Kernels compile where nothing can be written."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

SCRIPT = """
from read_only.jit import kernel

@kernel
def double(number: int) -> int:
    return 2 * number

print(double(21))
"""


def test_compiles_without_a_writable_cache_folder(tmp_path: Path) -> None:
    """A package folder and a home that are plain files leave numba no place for its cache."""
    package = tmp_path / "read_only"
    package.mkdir()
    source = Path("services/worker/defenses/jit.py")
    shutil.copy(Path(__file__).parents[3] / source, package / "jit.py")
    (package / "__init__.py").touch()
    script = tmp_path / "run.py"
    script.write_text(SCRIPT, encoding="utf-8")
    (tmp_path / "__pycache__").touch()
    (tmp_path / "home").touch()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path / "home"),
        "XDG_CACHE_HOME": str(tmp_path / "home"),
    }
    done = subprocess.run(
        [sys.executable, str(script)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "42\n"), done.stderr
