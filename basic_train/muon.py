"""Muon for convolutions: momentum whose update is the nearest orthogonal matrix.

torch.optim.Muon takes matrices only; here a convolution's weight counts as a matrix (out, in * k * k). The update of a
layer then changes all directions of its output alike, which codec transforms need: with Adam their high-rate qualities
converge many times slower (docs/lab.md). Method: K. Jordan et al., "Muon: an optimizer for hidden layers in neural
networks", 2024; coefficients of the quintic Newton-Schulz iteration are theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5


def orthogonalise(matrix: Tensor) -> Tensor:
    """About U V^T of the singular value decomposition U S V^T: (rows, columns), singular values in 0.7 .. 1.2."""
    a, b, c = NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).bfloat16()
    x = x / (x.norm() + 1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if tall else x).to(matrix.dtype)


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised per weight; parameters have two or more dimensions, rows first.

    lr: size of the update's singular values, times sqrt(rows / columns) for tall matrices.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float = 0.02, momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, group["lr"], group["momentum"])

    def _update(self, weight: Tensor, lr: float, momentum: float) -> None:
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        average = state["momentum"].lerp_(weight.grad, 1 - momentum)
        update = weight.grad.lerp(average, momentum).flatten(1)
        tall = max(1.0, update.shape[0] / update.shape[1]) ** 0.5
        weight.add_(orthogonalise(update).reshape(weight.shape), alpha=-lr * tall)
