"""One small job of each kind, seeded, and the SHA-256 of all that it stores.

``python -m tests.small_jobs`` prints them; ``--record`` writes them where the test looks
(``tests/unit/jobs/test_artifacts.py``), beside the machine that they come from. The processor's
newest instructions are left out and one thread computes, so that machines of one maker agree.
"""

import argparse
import hashlib
import io
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).parent / "unit" / "jobs" / "recorded_artifacts.json"
ENVIRONMENT = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "OMP_NUM_THREADS": "1",
    "BAUTA_THREADS": "1",
}
VOLATILE = frozenset({"cost_ms"})  # fields of JSON artifacts that tell of time
LIBRARIES = ("torch", "torchvision", "numpy", "pillow", "numba", "matplotlib", "scikit-image")
FACE = (160, 50, 290, 200)  # in the portrait
_ID = re.compile(r"\b(job|img|ds|mdl)_[0-9a-f]{24}\b")

Json = dict[str, Any]
Hashes = dict[str, dict[str, str]]


def machine() -> dict[str, str]:
    """Return what the bytes depend on beside the code."""
    from importlib.metadata import version

    return {
        "processor": _processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("vendor_id"))
    return next(named, platform.processor())


def hashes_in_a_fresh_process(kinds: Sequence[str] = ()) -> Hashes:
    """Run the jobs in a process whose libraries start with ``ENVIRONMENT``."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.small_jobs", *kinds],
        env={**os.environ, **ENVIRONMENT},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    found: Hashes = json.loads(done.stdout.splitlines()[-1])
    return found


class _Service:
    """The API and one worker in this process, on data that goes with the folder."""

    def __init__(self, folder: Path) -> None:
        import torch

        from services.worker.app import Worker
        from services.worker.defenses.carving import SeamCarving
        from shared.settings import load_settings
        from tests.unit.api.service import serving

        torch.set_num_threads(1)
        # Compiled here: on a busy machine that takes minutes, and a job has a deadline.
        SeamCarving(height=6, width=6, energy="gradient").carve(torch.zeros(1, 3, 8, 8))
        self._serving = serving(folder)
        self.client = self._serving.__enter__().client
        settings = load_settings(data_dir=folder, lease_seconds=3600)
        self.worker = Worker(settings, device=torch.device("cpu"))
        self.dataset = ""

    def close(self) -> None:
        """Stop the API."""
        self._serving.__exit__(None, None, None)

    def post(self, kind: str, photos: Sequence[bytes] = (), **spec: Any) -> Json:
        """Create a job of photos and a spec, run it, and return it."""
        files = [("image", (f"{i}.png", photo, "image/png")) for i, photo in enumerate(photos)]
        if files:
            answer = self.client.post(
                f"/v1/jobs/{kind}", files=files, data={"spec": json.dumps(spec)}
            )
        else:
            answer = self.client.post(f"/v1/jobs/{kind}", json=spec)
        return self.run(answer)

    def run(self, answer: Any) -> Json:
        """Run the job that an answer tells of."""
        if answer.status_code >= 300:
            raise RuntimeError(answer.text)
        self.worker.engine.look(answer.json()["id"])
        job: Json = self.client.get(f"/v1/jobs/{answer.json()['id']}").json()
        if job["state"] != "succeeded":
            raise RuntimeError(json.dumps(job))
        return job

    def hashes(self, job: Json) -> dict[str, str]:
        """Return the SHA-256 of a job's artifacts, and of the weights that it registered."""
        found = {}
        for artifact in sorted(job["artifacts"], key=lambda one: str(one["name"])):
            data = self.client.get(artifact["url"]).content
            if artifact["name"] == "table.csv":
                continue  # times are among its columns; ``table.json`` has the same figures
            if artifact["name"].endswith(".json"):
                data = _stable(json.loads(data)).encode()
            found[artifact["name"]] = hashlib.sha256(data).hexdigest()
        if "model" in job["result"] and isinstance(job["result"]["model"], dict):
            found["(weights)"] = str(job["result"]["model"]["sha256"])
        if not found:
            found["(models)"] = " ".join(one["sha256"] for one in job["result"]["models"])
        return found

    def drawn_dataset(self) -> str:
        """Return the id of a data set of drawn faces, imported once."""
        if not self.dataset:
            import_dataset(self)
        return self.dataset


def _stable(document: object) -> str:
    def kept(value: object) -> object:
        if isinstance(value, dict):
            return {key: kept(one) for key, one in value.items() if key not in VOLATILE}
        return [kept(one) for one in value] if isinstance(value, list) else value

    return _ID.sub(r"\1", json.dumps(kept(document), sort_keys=True))


def _png(picture: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _portraits() -> list[bytes]:
    from services.demo.photos import masked_portrait, portrait

    return [_png(portrait()), _png(masked_portrait())]


def import_dataset(service: _Service) -> list[Json]:
    """Import drawn faces of two classes."""
    from services.demo.drawn import drawn_archive

    archive = drawn_archive(("with_mask", "without_mask"), each=12)
    answer = service.client.post(
        "/v1/datasets",
        params={"name": "drawn"},
        content=archive,
        headers={"Content-Type": "application/zip"},
    )
    job = service.run(answer)
    service.dataset = job["result"]["dataset"]
    return [job]


def import_model(service: _Service) -> list[Json]:
    """Import a copy of the smallest shipped classifier."""
    models = Path(str(__import__("services.worker.models").__path__[0])) / "worker" / "models"
    folder = models / "bundled" / "mask-cnn-32"
    card = json.loads(next(folder.glob("*.json")).read_text())
    answer = service.client.post(
        "/v1/models",
        params={
            "id": "a-copy",
            "task": card["task"],
            "architecture": card["architecture"],
            "classes": ",".join(card["classes"]),
            "input_size": card["input_size"][0],
            "license": "CC0-1.0",
        },
        content=next(folder.glob("*.safetensors")).read_bytes(),
        headers={"Content-Type": "application/octet-stream"},
    )
    return [service.run(answer)]


def classify(service: _Service) -> list[Json]:
    """Classify two photos."""
    return [service.post("classify", _portraits())]


def attack(service: _Service) -> list[Json]:
    """Attack crops by gradients, and a whole photo by queries."""
    return [
        service.post("attack", _portraits(), attack={"name": "fgsm", "eps": 8}),
        service.post(
            "attack",
            _portraits(),
            attack={"name": "sparse_rs", "pixels": 5, "queries": 60},
            model="mask-cnn-32",
            at="photo",
        ),
    ]


def defend(service: _Service) -> list[Json]:
    """Defend a photo at the classifier's input, with steps that all leave a picture."""
    steps = [
        {"name": "pixel_repair", "pixels": 1},
        {"name": "seam_carving", "energy": "gradient"},
    ]
    smoothed = [{"name": "jpeg"}, {"name": "smoothing", "selection": 10, "samples": 20}]
    return [
        service.post("defend", _portraits()[:1], defenses=steps, model="mask-cnn-32"),
        service.post("defend", _portraits()[1:], defenses=smoothed, model="mask-cnn-32"),
    ]


def encrypt(service: _Service) -> list[Json]:
    """Cloak a photo, with few steps."""
    return [service.post("encrypt", _portraits()[:1], preset="live", parameters={"steps": 2})]


def evaluate(service: _Service) -> list[Json]:
    """Judge a classifier, attacked, defended, with the detector."""
    return [
        service.post(
            "evaluate",
            data={"dataset": service.drawn_dataset(), "split": "all"},
            models=["mask-cnn-32"],
            attacks=[{"name": "fgsm"}, {"name": "sparse_rs", "queries": 20}],
            defenses=[[{"name": "jpeg"}], [{"name": "seam_carving", "energy": "gradient"}]],
            detector="feature_squeezing",
            bootstrap=50,
        )
    ]


def generate_mask(service: _Service) -> list[Json]:
    """Design masks for one person, and a pattern against dlib."""
    from PIL import ImageEnhance

    from services.demo.photos import portrait

    photos = [
        _png(ImageEnhance.Brightness(portrait()).enhance(light)) for light in (0.8, 0.9, 1.0, 1.1)
    ]
    return [
        service.post("generate-mask", photos, hyperparameters={"epochs": 2}, designs=2),
        service.post(
            "generate-mask",
            method="hog",
            hog={"pattern": "grid", "steps": 6, "side": 192, "cell": 8, "processes": 1},
        ),
    ]


def train(service: _Service) -> list[Json]:
    """Train a small network for two epochs."""
    return [
        service.post(
            "train",
            datasets=[service.drawn_dataset()],
            model_id="drawn",
            task="mask",
            architecture="cnn",
            hyperparameters={"epochs": 2, "batch_size": 8, "precision": "float32"},
        )
    ]


JOBS: dict[str, Callable[[_Service], list[Json]]] = {
    "import-dataset": import_dataset,
    "import-model": import_model,
    "classify": classify,
    "attack": attack,
    "defend": defend,
    "encrypt": encrypt,
    "evaluate": evaluate,
    "generate-mask": generate_mask,
    "train": train,
}


def run_small_jobs(kinds: Sequence[str] = ()) -> Hashes:
    """Run the small jobs of these kinds, or of all, in this process."""
    found: Hashes = {}
    with tempfile.TemporaryDirectory() as folder:
        service = _Service(Path(folder))
        try:
            for kind in kinds or JOBS:
                jobs = JOBS[kind](service)
                found[kind] = {
                    f"{number} {name}": digest
                    for number, job in enumerate(jobs)
                    for name, digest in service.hashes(job).items()
                }
                print(kind, file=sys.stderr, flush=True)
        finally:
            service.close()
    return found


def main() -> int:
    """Print or record the hashes."""
    parser = argparse.ArgumentParser(description="Run one small job a kind; print SHA-256.")
    parser.add_argument("kinds", nargs="*", metavar="kind", help="default: all kinds")
    parser.add_argument("--record", action="store_true", help="write them for the test")
    options = parser.parse_args()
    if not options.record:
        print(json.dumps(run_small_jobs(options.kinds)))
        return 0
    kept = json.loads(RECORDED.read_text())["artifacts"] if options.kinds else {}
    kept |= hashes_in_a_fresh_process(options.kinds)
    RECORDED.write_text(json.dumps({"machine": machine(), "artifacts": kept}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
