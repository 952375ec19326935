"""Model compression: pruning, quantisation and distillation.

Magnitude pruning: Han et al. 2015. Symmetric 8-bit weights with one scale per row: Jacob et al. 2018 (section 2).
Distillation: Hinton et al. 2015 (section 2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from networks.encoders.store import pack, unpack
from networks.supervised.data import DataError
from networks.supervised.models import Classifier, SupervisedModel

Loss = Callable[[Tensor, Mapping[str, Tensor]], Tensor]


def weight_matrices(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return the weights that can be pruned or quantised: all but biases and normalisation."""
    return {name: weight for name, weight in module.named_parameters() if weight.dim() >= 2}


@torch.no_grad()
def prune(module: nn.Module, share: float) -> None:
    """Set a share of all weights to 0, the smallest in magnitude over all layers."""
    if not 0.0 <= share < 1.0:
        raise DataError(f"--prune must be at least 0 and below 1, not {share:g}")
    weights = weight_matrices(module)
    sizes = torch.cat([weight.abs().flatten() for weight in weights.values()])
    count = round(share * len(sizes))
    if not count:
        return
    limit = sizes.kthvalue(count).values
    for weight in weights.values():
        weight.mul_(weight.abs() > limit)


@torch.no_grad()
def quantize(module: nn.Module) -> None:
    """Round all weights to 8 bits, as `store.save(int8=True)` does."""
    for weight in weight_matrices(module).values():
        weight.copy_(unpack(pack({"weight": weight}))["weight"])


def count_nonzero(module: nn.Module) -> tuple[int, int]:
    """Return the number of nonzero parameters, and of all."""
    parameters = list(module.parameters())
    return sum(int((part != 0).sum()) for part in parameters), sum(part.numel() for part in parameters)


def distillation_loss(
    student: SupervisedModel, teacher: SupervisedModel, share: float = 0.7, temperature: float = 2.0
) -> Loss:
    """Return the student's loss: `share` x KL from the teacher's softened probabilities + the rest x its own loss.

    Raises DataError unless both are classifiers with the same classes.
    """
    if not isinstance(student, Classifier) or not isinstance(teacher, Classifier):
        raise DataError("--distill needs a task with classes and linear heads")
    if {name: head.out_features for name, head in student.heads.items()} != {
        name: head.out_features for name, head in teacher.heads.items()
    }:
        raise DataError("the teacher has other classes")
    teacher.eval().requires_grad_(False)

    def loss(x: Tensor, y: Mapping[str, Tensor]) -> Tensor:
        with torch.no_grad():
            teacher_logits = teacher.logits(x)
        divergence = torch.zeros((), device=x.device)
        for name, logits in student.logits(x).items():
            soft_targets = (teacher_logits[name] / temperature).softmax(dim=1)
            log_probabilities = (logits / temperature).log_softmax(dim=1)
            divergence = divergence + temperature**2 * F.kl_div(log_probabilities, soft_targets, reduction="batchmean")
        return share * divergence + (1.0 - share) * student.loss(x, y)

    return loss
