"""What all photos of an ``encrypt`` job share: its settings, recognizers, targets and people."""

from dataclasses import dataclass, replace

from torch import Tensor

from services.worker.faces.cloaking.config import PRESETS, CloakConfig
from services.worker.jobs.encrypt.whom import Whom
from services.worker.jobs.kit.recognizers import (
    LoadedRecognizer,
    Roles,
)
from shared.specs.encrypt import EncryptSpec


@dataclass(frozen=True)
class Setting:
    """What all photos of a job share."""

    spec: EncryptSpec
    config: CloakConfig
    roles: Roles
    others: Tensor | None
    targets: tuple[Tensor, ...] | None
    people: dict[str, Tensor]
    whom: Whom | None = None

    @property
    def all(self) -> tuple[LoadedRecognizer, ...]:
        return (*self.roles.surrogates, *self.roles.judges)


def configured(spec: EncryptSpec) -> CloakConfig:
    """Return the preset with what the spec changes."""
    return replace(PRESETS[spec.preset], **spec.parameters.model_dump(exclude_none=True))
