"""API keys: whose they may be."""

import pytest

from shared.db import Repository


@pytest.mark.parametrize(
    "tenant",
    ["", "Acme", "a b", "a/b", "../a", "acme\n", "-acme", "a" * 64, "ä", "a\x00", "\ud800"],
)
def test_a_tenant_has_a_name_that_can_be_part_of_a_path(
    repository: Repository, tenant: str
) -> None:
    with pytest.raises(ValueError, match="a tenant has"):
        repository.keys.create(tenant)
    assert repository.keys.all() == []


@pytest.mark.parametrize("name", ["x" * 201, "a\nb", "a\x00", "\ud800", "\x1b[31m"])
def test_a_note_on_a_key_is_printable(repository: Repository, name: str) -> None:
    with pytest.raises(ValueError, match="printable"):
        repository.keys.create("acme", name=name)


def test_names_that_are_fine(repository: Repository) -> None:
    for tenant in ("a", "acme-2", "0", "a" * 63):
        key, _ = repository.keys.create(tenant, name="Büro 🙂")
        assert key.tenant_id == tenant
