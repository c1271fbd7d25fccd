"""``/v1/operations``: the job kinds, with schemas, defaults and examples."""

from fastapi import APIRouter

from services.api.auth import Tenant
from services.api.documentation import problems
from services.api.schemas import OperationView
from shared.problems import Problem
from shared.results import RESULTS
from shared.specs import SPECS, JobSpec

router = APIRouter(prefix="/v1/operations", tags=["operations"])


@router.get("", responses=problems(401))
def list_operations(tenant: Tenant) -> list[OperationView]:
    """List the job kinds."""
    del tenant
    return [_view(kind, spec) for kind, spec in SPECS.items()]


@router.get("/{kind}", responses=problems(401, 404))
def get_operation(kind: str, tenant: Tenant) -> OperationView:
    """Describe one job kind."""
    del tenant
    if kind not in SPECS:
        raise Problem("unknown-kind", f"There is no job kind {kind[:60]!r}.")
    return _view(kind, SPECS[kind])


def _view(kind: str, spec: type[JobSpec]) -> OperationView:
    result = RESULTS.get(kind)
    fields = spec.model_fields.items()
    return OperationView(
        kind=kind,
        summary=spec.summary,
        description=(spec.__doc__ or "").strip(),
        spec_schema=spec.model_json_schema(),
        result_schema=result.model_json_schema(mode="serialization") if result else None,
        defaults={
            name: field.get_default(call_default_factory=True)
            for name, field in fields
            if not field.is_required()
        },
        examples=spec.spec_examples,
        url=spec.endpoint or f"/v1/jobs/{kind}",
    )
