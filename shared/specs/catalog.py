"""Finds the specs and parses them by kind."""

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Annotated, Any, Union

from pydantic import Field, TypeAdapter

import shared.specs as package
from shared.specs.base import JobSpec

_SUPPORT = {"base", "catalog"}


def kind_of(spec: type[JobSpec]) -> str:
    """Return the kind that a spec class is for."""
    return str(spec.model_fields["kind"].default)


def _find() -> dict[str, type[JobSpec]]:
    found = {}
    for module in pkgutil.iter_modules(package.__path__):
        if module.name in _SUPPORT:
            continue
        members = vars(importlib.import_module(f"{package.__name__}.{module.name}")).values()
        for member in members:
            is_spec = isinstance(member, type) and issubclass(member, JobSpec)
            if (
                is_spec
                and "kind" in member.__annotations__
                and member.__module__.endswith(f".{module.name}")
            ):
                found[kind_of(member)] = member
    return dict(sorted(found.items()))


SPECS: Mapping[str, type[JobSpec]] = _find()


def _union() -> TypeAdapter[Any]:
    union: Any = Union[tuple(SPECS.values())]  # noqa: UP007 - built at run time
    tagged: Any = Annotated[union, Field(discriminator="kind")] if len(SPECS) > 1 else union
    adapter: TypeAdapter[Any] = TypeAdapter(tagged)
    return adapter


ANY_SPEC: TypeAdapter[Any] = _union()


def parse_spec(document: Mapping[str, Any]) -> JobSpec:
    """Validate a stored spec of any kind; raises ``pydantic.ValidationError``."""
    spec: JobSpec = ANY_SPEC.validate_python(document)
    return spec
