"""What a job registers, and finds registered: the tenant's models and data sets."""

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any

from services.worker.runtime.attempt import Attempt
from shared.dataset_card import CONTACT_SHEET_FILE, PACK_FILE, DatasetCard
from shared.db.datasets import NewDataset
from shared.db.models import NewModel
from shared.db.queries import dataset_prefix, model_prefix, new_id
from shared.model_card import WEIGHTS_FILE, ModelCard
from shared.objects import ObjectMissingError
from shared.problems import Problem

UPLOAD_SECONDS = 3600.0  # to commit the row of what was stored; the keeper deletes it after that


class Registry:
    """The tenant's registry of models and data sets, as one attempt uses it."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._repository = attempt.services.repository
        self._objects = attempt.services.objects

    def save_dataset(
        self,
        card: DatasetCard,
        pack: bytes,
        *,
        summary: dict[str, Any],
        contact_sheet: bytes | None = None,
        keep_seconds: float | None = None,
    ) -> None:
        """Register a data set under its card's id. Only what this job made last is kept."""
        prefix = dataset_prefix(self._attempt.tenant_id, card.id)
        key, sweep_id = self._store_announced(prefix, PACK_FILE, pack)
        if contact_sheet is not None:
            place = prefix + CONTACT_SHEET_FILE
            self._attempt.patiently(lambda: self._objects.put(place, contact_sheet))
        new = NewDataset(
            id=card.id,
            name=card.name,
            layout=card.layout,
            classes=card.classes,
            summary=summary,
            images=len(card.items),
            size=len(pack),
            sha256=hashlib.sha256(pack).hexdigest(),
            object_key=key,
            sweep_id=sweep_id,
            keep_seconds=keep_seconds or self._attempt.services.settings.dataset_retention_seconds,
        )
        datasets = self._repository.datasets
        self._attempt.require_lease(
            datasets.create(
                self._attempt.tenant_id,
                new,
                job_id=self._attempt.job_id,
                fence=self._attempt.number,
            )
        )

    def save_model(self, card: ModelCard, weights: bytes, *, stopped: bool = False) -> None:
        """Register a model under its card's id; raises the problem ``model-exists``.

        With ``stopped`` a job that was canceled, or ran out of time, saves what it has.
        """
        if hashlib.sha256(weights).hexdigest() != card.sha256:
            raise ValueError("the card describes other weights")
        prefix = model_prefix(self._attempt.tenant_id, new_id("weights"))
        key, sweep_id = self._store_announced(prefix, WEIGHTS_FILE, weights, stopped=stopped)
        new = NewModel(
            id=card.id,
            task=card.task,
            card=card.model_dump(mode="json"),
            size=card.size,
            sha256=card.sha256,
            object_key=key,
            sweep_id=sweep_id,
            keep_seconds=self._attempt.services.settings.model_retention_seconds,
        )
        models = self._repository.models
        self._attempt.require_lease(
            models.create(
                self._attempt.tenant_id,
                new,
                job_id=self._attempt.job_id,
                fence=self._attempt.number,
            )
        )

    def model(self, model_id: str) -> "tuple[ModelCard, Callable[[], bytes]] | None":
        """Return a model that the tenant registered, and what reads its weights."""
        row = self._repository.models.get(self._attempt.tenant_id, model_id, past=True)
        if row is None:
            return None
        key = row.object_key

        def read() -> bytes:
            try:
                return self._attempt.patiently(lambda: self._objects.get(key))
            except ObjectMissingError as error:
                raise Problem("unknown-model", f"The model {model_id!r} is gone.") from error

        return ModelCard.model_validate(row.card), read

    def default_model_id(self, task: str) -> str | None:
        """Return the model that the tenant chose for a task; ``None``: the shipped one."""
        row = self._repository.models.default(self._attempt.tenant_id, task)
        return None if row is None else row.id

    def _store_announced(
        self, prefix: str, name: str, data: bytes, *, stopped: bool = False
    ) -> tuple[str, int]:
        announce = self._repository.models.announce_prefix
        sweep_id = announce(self._attempt.tenant_id, prefix, within_seconds=UPLOAD_SECONDS)
        put = partial(self._objects.put, prefix + name, data)
        self._attempt.patiently(put, stopped=stopped)
        return prefix + name, sweep_id
