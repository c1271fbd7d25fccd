"""The command line, as an operator meets it."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def bauta(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run ``bauta`` on the embedded default in this folder."""
    environment = {**os.environ, "BAUTA_DATA_DIR": str(folder), **variables}
    return subprocess.run(
        [sys.executable, "-m", "services.cli", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_line_needs_no_torch() -> None:
    code = "import sys, services.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_key_from_creation_to_revocation(tmp_path: Path) -> None:
    assert bauta(tmp_path, "db", "check").returncode == 1
    assert bauta(tmp_path, "db", "upgrade").returncode == 0
    assert bauta(tmp_path, "db", "check").returncode == 0

    made = bauta(tmp_path, "keys", "create", "--tenant", "acme", "--name", "ci")
    listed = bauta(tmp_path, "keys", "list").stdout

    assert made.stdout.startswith("bauta_"), "stdout holds the secret only, so that it can be piped"
    assert len(made.stdout.split()) == 1
    assert "acme" in listed
    assert made.stdout.strip() not in listed
    key_id = listed.split()[0]
    assert bauta(tmp_path, "keys", "revoke", key_id).returncode == 0
    assert bauta(tmp_path, "keys", "revoke", key_id).returncode == 1
    assert "revoked" in bauta(tmp_path, "keys", "list").stdout


@pytest.mark.parametrize(
    ("arguments", "variables", "sentence"),
    [
        (["keys", "list"], {}, "bauta db upgrade"),
        (["keeper"], {"BAUTA_LEASE_SECONDS": "1"}, "raise the lease"),
        (["keeper"], {"BAUTA_PORT": "seven"}, "port"),
        (["keeper"], {"BAUTA_DATABASE_PASSWORD_FILE": "missing.txt"}, "missing.txt"),
        (["keys", "create", "--tenant", "No!"], {}, "lower-case"),
        (["worker", "--queues", "express"], {}, "BAUTA_QUEUES"),
    ],
)
def test_errors_are_sentences(
    tmp_path: Path, arguments: list[str], variables: dict[str, str], sentence: str
) -> None:
    done = bauta(tmp_path, *arguments, **variables)

    assert done.returncode != 0
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_models_are_verified_and_imported(tmp_path: Path) -> None:
    listed = bauta(tmp_path, "models", "list").stdout
    assert "mask-face-112  mask" in listed
    verified = bauta(tmp_path, "models", "verify")
    assert (verified.returncode, verified.stderr) == (0, "")
    assert verified.stdout.count("as its card says") == listed.count("\n")

    weights = ROOT / "services/worker/models/bundled/mask-cnn-32/model.safetensors"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    options = (
        *("--id", "mine", "--architecture", "cnn", "--input-size", "32"),
        *("--classes", "with_mask,without_mask"),
    )
    wrong = bauta(tmp_path, "models", "import", str(weights), "--sha256", "0" * 64, *options)
    assert wrong.returncode == 1
    assert "has SHA-256" in wrong.stderr
    done = bauta(tmp_path, "models", "import", str(weights), "--sha256", digest, *options)
    assert done.returncode == 0, done.stderr
    assert "mine  mask  cnn" in bauta(tmp_path, "models", "list").stdout
    (tmp_path / "models" / "mine" / "model.safetensors").write_bytes(b"other")
    torn = bauta(tmp_path, "models", "verify")
    assert torn.returncode == 1
    assert "mine" in torn.stderr
