"""The one call that imports run in another process."""

import io
import subprocess
import sys

from services.worker.datasets.packing import pack_upload
from services.worker.datasets.packs import PackedDataset
from tests.archives import picture, zipped

ID = "ds_" + "0" * 24


def test_an_upload_becomes_a_pack_and_a_sheet() -> None:
    pack, sheet = io.BytesIO(), io.BytesIO()
    told = pack_upload(
        io.BytesIO(zipped({f"{'ab'[n % 2]}/{n}.png": picture(n) for n in range(6)})),
        pack,
        sheet,
        progress=lambda *_: None,
        dataset_id=ID,
        name="mine",
        layout=None,
        label=None,
        frames_per_second=1,
        frames=1,
        seed=0,
        image_limits={"max_bytes": 2**20},
        archive_limits={"files": 10},
    )
    card = PackedDataset(pack.getvalue()).card
    assert (card.id, card.name, card.classes, len(card.items)) == (ID, "mine", ("a", "b"), 6)
    assert sheet.getvalue().startswith(b"\xff\xd8")
    assert (told["format"], told["left_out"], told["reasons"]) == ("class folders", [], [])


def test_it_starts_without_pytorch() -> None:
    """Importing it takes seconds, and hundreds of megabytes of the process's limit."""
    script = (
        "import sys, services.worker.datasets.packing, services.worker.runtime.isolated_child\n"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
