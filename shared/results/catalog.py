"""Finds the results by kind."""

import importlib
import pkgutil
from collections.abc import Mapping

import shared.results as package
from shared.results.base import JobResult

_SUPPORT = {"base", "catalog"}


def _find() -> dict[str, type[JobResult]]:
    found = {}
    for module in pkgutil.iter_modules(package.__path__):
        if module.name in _SUPPORT:
            continue
        members = vars(importlib.import_module(f"{package.__name__}.{module.name}")).values()
        for member in members:
            is_result = isinstance(member, type) and issubclass(member, JobResult)
            if is_result and member.__module__.endswith(f".{module.name}"):
                found[str(member.model_fields["kind"].default)] = member
    return dict(sorted(found.items()))


RESULTS: Mapping[str, type[JobResult]] = _find()
