"""Narrows the weights of the first face finder (800 steps, wider maps) to start training from."""

import torch
from torch import Tensor

State = dict[str, Tensor]


def narrowed(old: State, new: State) -> State:
    """Return ``new`` with what fits of ``old``; both map names to tensors.

    Where maps were wider, the channels stay whose following weights are largest; what ``new`` has
    besides, keeps its values: the points, for example. One of two residual blocks at a quarter of
    the resolution is left out.
    """
    kept = {name: tensor.clone() for name, tensor in new.items()}
    old = {name.replace("quarter.0.", "quarter."): tensor for name, tensor in old.items()} | {
        name: tensor for name, tensor in old.items() if name.startswith("merge_quarter")
    }
    quarter = _largest(
        [old["eighth.0.body.0.0.weight"], old["from_quarter.weight"]], kept["from_quarter.weight"]
    )
    inner = _largest([old["quarter.body.1.weight"]], kept["quarter.body.1.weight"])
    merged = _largest([old["merge_quarter.0.weight"]], kept["merge_quarter.0.weight"])
    shared = _largest([old["heads.0.0.weight"]], kept["heads.0.0.weight"])
    last = _largest([old["heads.1.weight"]], kept["heads.1.weight"])
    # Which channels come out of a layer and go into it, where not all of them do.
    out_of = {
        "stem.1.": quarter,
        "quarter.body.0.": inner,
        "quarter.body.1.": quarter,
        "quarter.body.2.": quarter,
        "from_eighth.": merged,
        "from_quarter.": merged,
        "merge_quarter.": shared,
        "heads.0.": last,
    }
    into = {
        "quarter.body.0.": quarter,
        "quarter.body.1.": inner,
        "eighth.0.body.0.": quarter,
        "eighth.0.shortcut.1.": quarter,
        "from_quarter.": quarter,
        "merge_quarter.": merged,
        "heads.0.": shared,
        "heads.1.": last,
    }
    for name, tensor in kept.items():
        if name not in old:
            continue
        value = old[name]
        for place, channels in out_of.items():
            if name.startswith(place) and value.dim():
                value = value[channels]
        for place, channels in into.items():
            if name.startswith(place) and value.dim() == 4:
                value = value[:, channels]
        if value.shape == tensor.shape:
            kept[name] = value.to(tensor.dtype)
        elif name.startswith("heads.1."):
            kept[name][: len(value)] = value
        else:
            raise ValueError(f"{name}: {tuple(value.shape)} does not become {tuple(tensor.shape)}")
    return kept


def _largest(following: list[Tensor], wanted: Tensor) -> Tensor:
    """Return the input channels of convolutions that weigh most: as many as ``wanted`` has."""
    weight = sum((layer.abs().sum((0, 2, 3)) for layer in following), torch.zeros(()))
    return torch.sort(weight.topk(wanted.shape[1]).indices).values
