"""A classifier with a defense in front, for attacks that go through the defense."""

from torch import Tensor

from services.worker.defenses.base import Defense, derive
from services.worker.models.base import Classifier


class DefendedClassifier(Classifier):
    """Applies ``defense``, then ``classifier``; itself a classifier, so that attacks need no more.

    Queries pass through the defense. Gradients do too: the forward pass is the defense itself, the
    backward pass its surrogate (BPDA, Athalye, Carlini and Wagner 2018). For a random defense the
    class probabilities of ``draws`` transformations are averaged (EOT, Athalye et al. 2018) and
    their logarithm returned; every call draws anew, as the attacker's every query would, in a
    sequence that follows from ``seed``.

    ``input_size`` (height, width) is what the defended classifier takes: that of ``classifier``
    unless the defense resizes. Raises ``ValueError`` if the defense does not lead to the size that
    ``classifier`` takes.
    """

    def __init__(
        self,
        classifier: Classifier,
        defense: Defense,
        *,
        input_size: tuple[int, int] | None = None,
        draws: int = 1,
        seed: int = 0,
    ) -> None:
        if draws < 1:
            raise ValueError("a defended classifier needs at least one draw")
        super().__init__(
            classifier,
            architecture=classifier.architecture,
            classes=classifier.classes,
            input_size=input_size or classifier.input_size,
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
        )
        self.defense = defense
        self.draws = 1 if defense.deterministic else draws
        self.seed = seed
        self._inner_size = classifier.input_size
        self._calls = 0
        self.train(classifier.training)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(N, C)``; with several draws, the log of the mean probabilities."""
        if self.draws == 1:
            return self._once(images)
        total = self._once(images).softmax(1)
        for _ in range(self.draws - 1):
            total = total + self._once(images).softmax(1)
        return (total / self.draws).clamp_min(1e-12).log()

    def _once(self, images: Tensor) -> Tensor:
        seed = derive(self.seed, self._calls)
        self._calls += 1
        transform = self.defense.differentiable if images.requires_grad else self.defense.apply
        defended = transform(images, seed=seed)
        size = tuple(defended.shape[2:])
        if size != tuple(self._inner_size):
            raise ValueError(
                f"{self.defense.name} leads to {size[0]}x{size[1]}, but the classifier takes "
                f"{self._inner_size[0]}x{self._inner_size[1]}"
            )
        logits: Tensor = self.network(defended)
        return logits
