"""Residual networks whose gradients prefer the shortcuts: what they say holds for others, too."""

from torch import Tensor, nn

from services.worker.models.embedders import residual_branch


class Softened(nn.Module):
    """A branch that computes what it did and passes on a ``share`` of its gradient."""

    def __init__(self, branch: nn.Module, share: float) -> None:
        super().__init__()
        self.branch, self.share = branch, share

    def forward(self, maps: Tensor) -> Tensor:
        out: Tensor = self.branch(maps)
        return self.share * out + (1 - self.share) * out.detach()


def soften(network: nn.Module, share: float) -> None:
    """Let only a ``share`` of the gradient, in (0, 1], through the branches beside shortcuts.

    Skip gradient method (Wu et al. 2020): a gradient that runs along the shortcuts depends less on
    what one network alone has learned. Outputs stay the same, and so do networks without known
    residual blocks. Changes the network in place. Raises ``ValueError`` for another share.
    """
    if not 0 < share <= 1:
        raise ValueError(f"the share of a gradient lies in (0, 1]: {share}")
    if share == 1:
        return
    for part in list(network.modules()):
        name = residual_branch(part)
        if name is not None and getattr(part, "shortcut", True) is not False:
            part.set_submodule(name, Softened(part.get_submodule(name), share))
