"""The public faces of the algorithms: what a notebook uses."""

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

DOCUMENT = Path(__file__).parents[3] / "docs" / "attacks.md"


def test_the_documented_lines_attack_a_model() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=generator)
    names: dict[str, Any] = {"images": images}

    exec(code, names)

    results = names["batch"].results
    assert len(results) == 4
    assert [result.label_before for result in results] == names["labels"].tolist()
    assert any(result.success for result in results)
    assert all(result.linf <= 8 for result in results)


@pytest.mark.parametrize("package", ["attacks", "defenses", "faces", "masks", "models"])
def test_every_public_name_is_there(package: str) -> None:
    module = import_module(f"services.worker.{package}")
    assert all(getattr(module, name) is not None for name in module.__all__)
    assert "nothing_of_that_name" not in module.__all__
    with pytest.raises(AttributeError, match="nothing_of_that_name"):
        module.nothing_of_that_name  # noqa: B018


def test_a_package_alone_imports_no_torch() -> None:
    code = "import sys; from services.worker import attacks, masks; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
