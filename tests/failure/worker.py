"""The real worker process, but for one more job kind and no models: it starts within a second."""

import logging
import sys
from typing import Any, cast

from services.worker.app import Worker
from shared.settings import load_settings
from tests.failure import trial

if __name__ == "__main__":
    trial.register()
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    device = cast(Any, "none")
    sys.exit(Worker(load_settings(), device=device, find_module=trial.find_module).run())
