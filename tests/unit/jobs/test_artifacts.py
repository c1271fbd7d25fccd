"""The bytes that one small job of each kind stores, against those recorded."""

import json

import pytest

from tests.small_jobs import JOBS, RECORDED, hashes_in_a_fresh_process, machine

RECORD = "If they change on purpose, record them anew: python -m tests.small_jobs --record"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_stored_bytes_are_those_recorded() -> None:
    recorded = json.loads(RECORDED.read_text())
    assert set(recorded["artifacts"]) == set(JOBS)

    found = hashes_in_a_fresh_process()

    names = {kind: sorted(hashes) for kind, hashes in found.items()}
    assert names == {kind: sorted(hashes) for kind, hashes in recorded["artifacts"].items()}, RECORD
    if recorded["machine"] == machine():
        assert found == recorded["artifacts"], RECORD
    else:  # other processors and libraries add up in another order: two runs agree all the same
        assert found == hashes_in_a_fresh_process()
