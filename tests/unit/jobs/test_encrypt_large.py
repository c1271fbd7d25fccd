"""``encrypt`` on a photo of 40 megapixels: bounded memory, in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
# Photo, changed photo and delivered photo take 120 MB each; torch and the models some 700.
MOST_MEGABYTES = 2300

SCRIPT = """
import io, sys
import numpy as np
from PIL import Image
from skimage import data
from services.worker.jobs.encrypt import job
from shared.images import ImageLimits, sanitize
from shared.specs.encrypt import EncryptSpec
from tests.memory import peak_kibibytes
from tests.unit.jobs.conftest import FakeContext
from pathlib import Path
from shared.settings import load_settings

photo = np.full((5000, 8000, 3), 90, np.uint8)
face = np.asarray(Image.fromarray(data.astronaut()).resize((1536, 1536)))
photo[2000:3536, 3000:4536] = face
buffer = io.BytesIO()
Image.fromarray(photo).save(buffer, "JPEG", quality=90)
stored = sanitize(buffer.getvalue(), ImageLimits())
context = FakeContext([], load_settings(data_dir=Path(sys.argv[1])))
context.files = [(stored.data, stored.orientation)]
spec = EncryptSpec.model_validate(
    {"images": ["img_" + "0" * 24], "parameters": {"steps": 2}, "judges": []}
)
result = job.run(context, spec)
(image,) = result.images
assert len(image.faces) == 1, image
back = np.asarray(Image.open(io.BytesIO(context.artifacts[image.photo])))
assert back.shape == (5000, 8000, 3)
print(peak_kibibytes() // 1024)
"""


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_forty_megapixels_stay_within_a_bound(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) < MOST_MEGABYTES
