"""``evaluate``: accuracy of classifiers, clean and under attack."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from shared.specs.attack import AnyAttack
from shared.specs.base import ImageId, ImagesSpec
from shared.specs.data import DataSample
from shared.specs.defend import AnyStep, SeamCarving, check_order
from shared.specs.faces import MODEL_ID_PATTERN

ModelId = Annotated[str, StringConstraints(pattern=MODEL_ID_PATTERN)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=100)]
Chain = Annotated[tuple[AnyStep, ...], Field(min_length=1, max_length=8)]
MOST_ROWS = 400

# The parameters that take integers in a sweep.
_WHOLE = ("steps", "restarts", "pixels", "population", "generations", "queries")


class Sweep(BaseModel):
    """One attack parameter at several values; attacks that lack it run once."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    parameter: Literal[
        "eps", "steps", "restarts", "pixels", "population", "generations", "queries"
    ] = Field(description="`pixels` is k of the few-pixel attacks")
    values: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=2, max_length=20)

    @model_validator(mode="after")
    def _values_fit(self) -> Self:
        if len(set(self.values)) != len(self.values):
            raise ValueError("`values` contains a duplicate")
        if self.parameter in _WHOLE and any(value != int(value) for value in self.values):
            raise ValueError(f"`{self.parameter}` takes integers")
        return self

    @property
    def settings(self) -> tuple[dict[str, float | int], ...]:
        """The values as an attack takes them."""
        whole = self.parameter in _WHOLE
        return tuple({self.parameter: int(v) if whole else v} for v in self.values)


class EvaluateSpec(ImagesSpec):
    """Measure models on labeled images: clean, and under each attack with each defense."""

    summary: ClassVar[str] = (
        "Measure the accuracy of models on labeled images, also under attack and with defenses"
    )
    spec_examples: ClassVar[list[dict[str, Any]]] = [
        {
            "kind": "evaluate",
            "data": {"dataset": "ds_0123456789abcdef01234567", "split": "test"},
            "models": ["mask-cnn-32", "mask-face-112"],
        },
        {
            "kind": "evaluate",
            "data": {"dataset": "ds_0123456789abcdef01234567", "sample": 200},
            "models": ["mask-cnn-32"],
            "attacks": [{"name": "de", "pixels": 5}, {"name": "pgd", "eps": 4}],
            "defenses": [[{"name": "seam_carving"}], [{"name": "jpeg"}, {"name": "median"}]],
            "detector": "feature_squeezing",
        },
        {
            "kind": "evaluate",
            "data": {"dataset": "ds_0123456789abcdef01234567", "sample": 200},
            "attacks": [{"name": "fgsm"}, {"name": "pgd"}],
            "sweep": {"parameter": "eps", "values": [1, 2, 4, 8]},
        },
    ]

    kind: Literal["evaluate"] = "evaluate"
    data: DataSample | None = Field(default=None, description="a sample of a data set")
    images: tuple[ImageId, ...] = Field(
        default=(),
        max_length=10_000,
        description="uploaded images, each a whole face crop, instead of `data`",
    )
    labels: tuple[Label, ...] = Field(default=(), description="the label of each uploaded image")
    models: tuple[ModelId, ...] = Field(
        default=(), max_length=8, description="default: the tenant's default mask classifier"
    )
    attacks: tuple[AnyAttack, ...] = Field(default=(), max_length=16)
    defenses: tuple[Chain, ...] = Field(
        default=(),
        max_length=16,
        description="each defense is a list of steps, applied in order; each is evaluated alone",
    )
    cut_size: int | None = Field(
        default=None,
        ge=16,
        le=512,
        description=(
            "side in pixels of the pictures that are carved, and attacked, where a defense carves "
            "seams; default: twice the classifier's input"
        ),
    )
    detector: Literal["feature_squeezing"] | None = Field(
        default=None,
        description=(
            "judge the detector of Xu et al. (2018), too: how many clean images and how many that "
            "fooled an undefended model it calls suspicious"
        ),
    )
    sweep: Sweep | None = None
    rounds: int = Field(
        default=0,
        ge=0,
        le=10,
        description=(
            "of the attack and defense cycle: learn from what the attack finds in the `train` "
            "split, and be attacked again on the sample; needs one model and one attack"
        ),
    )
    finds: int = Field(
        default=200, ge=1, le=10_000, description="training images attacked in each round"
    )
    draws: int = Field(
        default=8,
        ge=1,
        le=100,
        description="samples of a random defense that attacks average over (EOT)",
    )
    judged_draws: int = Field(
        default=10,
        ge=1,
        le=1000,
        description=(
            "of a random defense, that judge an image, clean and attacked: it counts as right "
            "where more than half of them are; the attack sees none of them"
        ),
    )
    bootstrap: int = Field(
        default=500, ge=50, le=5000, description="bootstrap samples for the intervals"
    )
    seed: int = Field(default=0, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if (self.data is None) == (not self.images):
            raise ValueError("give either `data`, or `images` with `labels`")
        if len(self.images) != len(self.labels):
            raise ValueError(
                f"`labels` has {len(self.labels)} entries for {len(self.images)} images: one each"
            )
        if len(set(self.models)) != len(self.models):
            raise ValueError("`models` contains a duplicate")
        if self.defenses and not self.attacks:
            raise ValueError(
                "defenses are measured under attack: name at least one attack in `attacks`"
            )
        if self.detector and not self.attacks:
            raise ValueError(
                "a detector is measured under attack: name at least one attack in `attacks`"
            )
        self._refuse_wrong_defenses()
        self._refuse_useless_sweep()
        if self.rounds:
            self._refuse_rounds()
        rows = max(1, len(self.models)) * len(self.swept) * (1 + len(self.defenses))
        if rows > MOST_ROWS:
            raise ValueError(f"that makes {rows} rows: {MOST_ROWS} at most")
        return self

    def _refuse_wrong_defenses(self) -> None:
        for chain in self.defenses:
            check_order(chain)
        carving = [s for chain in self.defenses for s in chain if isinstance(s, SeamCarving)]
        if any(step.protect_face for step in carving):
            raise ValueError("crops have no face box: `protect_face` cannot be used")
        if self.cut_size is not None and not carving:
            raise ValueError("`cut_size` applies to seam carving: no defense here carves seams")

    def _refuse_useless_sweep(self) -> None:
        if self.sweep is None:
            return
        fields = [type(attack).model_fields for attack in self.attacks]
        if not any(self.sweep.parameter in named for named in fields):
            raise ValueError(f"no attack here has the parameter `{self.sweep.parameter}`")

    def _refuse_rounds(self) -> None:
        if self.data is None or self.data.split not in ("val", "test"):
            raise ValueError("`rounds` train on the split `train`: evaluate on `test` or `val`")
        if len(self.attacks) != 1 or len(self.models) > 1:
            raise ValueError("`rounds` need exactly one attack and at most one model")

    @property
    def swept(self) -> tuple[AnyAttack, ...]:
        """The attacks, each at every value of the sweep that it takes."""
        found: list[AnyAttack] = []
        for attack in self.attacks:
            if self.sweep is None or self.sweep.parameter not in type(attack).model_fields:
                found.append(attack)
                continue
            given = attack.model_dump(exclude_unset=True) | {"name": attack.name}
            found += [type(attack).model_validate(given | more) for more in self.sweep.settings]
        return tuple(found)

    @property
    def dataset_ids(self) -> tuple[str, ...]:
        return () if self.data is None else (self.data.dataset,)

    @property
    def model_ids(self) -> tuple[str, ...]:
        return self.models

    @property
    def timeout_seconds(self) -> float:
        return 24 * 3600.0 if self.attacks else 2 * 3600.0
