"""The real worker process, but for one more job kind and no models: it starts within a second."""

import argparse
import logging
import sys
from pathlib import Path
from typing import Any, cast

from services.worker.app import Worker
from shared.settings import load_settings
from tests.failure import trial

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--health-file", type=Path)
    parser.add_argument("--supervised", action="store_true")
    options = parser.parse_args()
    trial.register()
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    device = cast(Any, "none")
    worker = Worker(
        load_settings(),
        device=device,
        find_module=trial.find_module,
        health_file=options.health_file,
        supervised=options.supervised,
    )
    sys.exit(worker.run())
