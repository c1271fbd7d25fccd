"""The two parts of a classifier: a backbone that sees, and the head that names what it saw."""

import copy

from torch import Tensor, nn

from services.worker.models.base import Classifier
from services.worker.models.networks import ClassCapsules


def head_name(classifier: Classifier) -> str:
    """Return the name, within ``classifier.network``, of the layer that gives the logits.

    Auxiliary heads, which networks list before their own, are no heads in this sense.
    """
    names = [
        name
        for name, module in classifier.network.named_modules()
        if isinstance(module, nn.Linear | ClassCapsules)
    ]
    if not names:
        raise ValueError(f"{classifier.architecture} has no layer that could be its head")
    return str(names[-1])


def head_of(classifier: Classifier) -> nn.Module:
    """Return the layer that gives the logits."""
    return classifier.network.get_submodule(head_name(classifier))


def headless(classifier: Classifier) -> Classifier:
    """Return a copy, in ``eval()``, whose output is what the head takes: the features."""
    copied = copy.deepcopy(classifier).eval()
    name = head_name(copied)
    copied.network.set_submodule(name, nn.Identity())
    return copied


class Head(Classifier):
    """The head alone: takes features instead of pictures. It shares its weights."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__(
            head_of(classifier),
            architecture=classifier.architecture,
            classes=classifier.classes,
            input_size=classifier.input_size,
        )

    def all_logits(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the logits of features ``(N, …)``."""
        return (self.network(images),)
