"""Smaller networks: weights left out, weights in eight bits, and small networks that learn from large ones.

Magnitude pruning: Han et al. 2015. Symmetric 8-bit weights, a scale for each row: Jacob et al. 2018 (section 2).
Distillation: Hinton et al. 2015 (section 2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from networks.encoders.store import pack, unpack
from networks.supervised.data import DataError
from networks.supervised.models import Classifier, Supervised

Loss = Callable[[Tensor, Mapping[str, Tensor]], Tensor]


def matrices(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return the weights that can be left out or rounded: all but biases and what normalises."""
    return {name: weight for name, weight in module.named_parameters() if weight.dim() >= 2}


@torch.no_grad()
def prune(module: nn.Module, share: float) -> None:
    """Set this share of all weights to 0, the smallest of all layers together."""
    if not 0.0 <= share < 1.0:
        raise DataError(f"the share of weights to leave out must lie in 0 to below 1, not {share:g}")
    weights = matrices(module)
    sizes = torch.cat([weight.abs().flatten() for weight in weights.values()])
    count = round(share * len(sizes))
    if not count:
        return
    limit = sizes.kthvalue(count).values
    for weight in weights.values():
        weight.mul_(weight.abs() > limit)


@torch.no_grad()
def quantize(module: nn.Module) -> None:
    """Round all weights to what eight bits can hold, as a folder saved with `int8` does."""
    for weight in matrices(module).values():
        weight.copy_(unpack(pack({"weight": weight}))["weight"])


def weights_left(module: nn.Module) -> tuple[int, int]:
    """Return how many numbers are not 0, and how many there are."""
    parameters = list(module.parameters())
    return sum(int((part != 0).sum()) for part in parameters), sum(part.numel() for part in parameters)


def distilling(student: Supervised, teacher: Supervised, share: float = 0.7, temperature: float = 2.0) -> Loss:
    """Return the student's loss: `share` of it how far its chances are from the teacher's, softened by `temperature`.

    The rest is its own. Raises DataError for what does not choose among classes.
    """
    if not isinstance(student, Classifier) or not isinstance(teacher, Classifier):
        raise DataError("--distill is for tasks that choose among classes with a linear layer")
    if {name: head.out_features for name, head in student.heads.items()} != {
        name: head.out_features for name, head in teacher.heads.items()
    }:
        raise DataError("the teacher chooses among other classes")
    teacher.eval().requires_grad_(False)

    def loss(x: Tensor, y: Mapping[str, Tensor]) -> Tensor:
        with torch.no_grad():
            known = teacher.logits(x)
        own = student.logits(x)
        far = torch.zeros((), device=x.device)
        for name, logits in own.items():
            wanted, found = (known[name] / temperature).softmax(dim=1), (logits / temperature).log_softmax(dim=1)
            far = far + temperature**2 * F.kl_div(found, wanted, reduction="batchmean")
        return share * far + (1.0 - share) * student.loss(x, y)

    return loss
