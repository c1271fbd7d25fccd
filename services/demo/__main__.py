"""Starts the embedded service, posts photos to every job kind through HTTP, shows what came."""

import json
import sys

from services.demo.service import service
from services.demo.shows import OUTPUT, SHOWS


def main() -> int:
    """Show every job kind; 0 only if each gave what it should."""
    OUTPUT.mkdir(exist_ok=True)
    print("starting the service …", flush=True)
    with service() as client:
        kinds = [operation["kind"] for operation in json.loads(client.get("/v1/operations"))]
        outcomes = {}
        for kind in kinds:
            print(f"\n{kind}", flush=True)
            if kind not in SHOWS:
                print("  not shown: it takes in a file of your own")
                continue
            outcomes[kind] = SHOWS[kind](client)
    wrong = [kind for kind, right in outcomes.items() if not right]
    print(f"\npictures: {OUTPUT.resolve()}")
    print("all as expected" if not wrong else f"NOT as expected: {', '.join(wrong)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
