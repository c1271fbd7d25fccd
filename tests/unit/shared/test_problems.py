"""Problems: the documents that clients branch on."""

import re

import pytest

from shared.problems import CATALOG, Problem


def test_document_has_the_members_of_rfc_9457() -> None:
    problem = Problem("queue-full", "5 jobs are waiting.", limit=5).with_headers(Retry_After="3")
    assert problem.document() == {
        "type": "/problems/queue-full",
        "title": "The queue is full",
        "status": 429,
        "detail": "5 jobs are waiting.",
        "limit": 5,
    }
    assert problem.headers == {"Retry-After": "3"}


@pytest.mark.parametrize("slug", CATALOG)
def test_catalog_is_fit_for_urls_and_http(slug: str) -> None:
    status, title = CATALOG[slug]
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", slug)
    assert 400 <= status <= 599
    assert title
    assert not title.endswith(".")


def test_unknown_slug_is_a_mistake_of_ours() -> None:
    with pytest.raises(KeyError):
        Problem("no-such-problem", "")


def test_a_long_detail_is_cut_and_its_length_said() -> None:
    detail = Problem("invalid-model", "x" * 20_000_000).detail
    assert len(detail) < 2100
    assert detail.endswith("… (20000000 characters)")


def test_a_detail_of_half_characters_is_json() -> None:
    assert Problem("invalid-model", "it holds \ud800").detail == "it holds ?"
