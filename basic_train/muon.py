"""Muon for convolutions: momentum whose update is the nearest orthogonal matrix.

torch.optim.Muon takes matrices only; here a convolution's weight counts as a matrix (out, in * k * k). The update of a
layer then changes all directions of its output alike, which codec transforms need: with Adam their high-rate qualities
converge many times slower (docs/lab.md). Method: K. Jordan et al., "Muon: an optimizer for hidden layers in neural
networks", 2024; coefficients of the quintic Newton-Schulz iteration are theirs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5

#: Share of the running mean of gradients that stays in each step; a parameter group keeps it, as states of runs do.
MOMENTUM = 0.95

#: Matrices at least so many times as wide as high iterate on their Gram matrix.
GRAM_ASPECT = 4


def orthogonalise(matrices: Tensor) -> Tensor:
    """About U V^T of the singular value decomposition U S V^T: (count, rows, columns), singular values in
    0.7 .. 1.2."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    x = _iterate_gram(x) if x.shape[2] >= GRAM_ASPECT * x.shape[1] else _iterate(x.bfloat16())
    return (x.mT if tall else x).to(matrices.dtype)


def _iterate(x: Tensor) -> Tensor:
    """Newton-Schulz steps x <- (a + b G + c G^2) x with G = x x^T. Products add what they are added to: on a GPU,
    starting a kernel takes longer than most of these."""
    a, b, c = NEWTON_SCHULZ
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _iterate_gram(x: Tensor) -> Tensor:
    """The same steps on G alone, which is square and small: all factors are polynomials of the first G, so they
    commute, and their product is applied to x once. float32, as powers of G lose bits."""
    a, b, c = NEWTON_SCHULZ
    gram = x @ x.mT
    product = None
    for step in range(NEWTON_SCHULZ_STEPS):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=1, dim2=2).add_(a)
        product = factor if product is None else product @ factor
        if step + 1 < NEWTON_SCHULZ_STEPS:
            gram = gram @ factor @ factor
    return product @ x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised per weight; parameters have two or more dimensions, rows (outputs) first,
    or second in parameter groups with `transposed`, as the weights of transposed convolutions.

    lr: size of the update's singular values, times sqrt(rows / columns) for tall matrices. Weights of one
    shape are updated together: most matrices of a codec are too small to fill a processor.

    A parameter group may have `factors`, a tensor that broadcasts to its weights' shape: they are then updated as if
    weight / factors were the parameter, which is right where a layer's inputs or outputs differ much in size.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": MOMENTUM, "transposed": False, "factors": None})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:
        for group in self.param_groups:
            alike = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    alike[weight.shape].append(weight)
            for weights in alike.values():
                self._update(weights, group)

    def _update(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        for weight in weights:
            if not self.state[weight]:
                self.state[weight]["momentum"] = torch.zeros_like(weight)
        gradients = [weight.grad for weight in weights]
        averages = [self.state[weight]["momentum"] for weight in weights]
        torch._foreach_lerp_(averages, gradients, 1 - group["momentum"])
        updates = torch.stack(torch._foreach_lerp(gradients, averages, group["momentum"]))
        factors, transposed = group["factors"], group["transposed"]
        if factors is not None and factors.device != updates.device:  # weights move to a GPU after they are grouped
            factors = group["factors"] = factors.to(updates.device)
        updates = updates if factors is None else updates * factors
        updates = updates.transpose(1, 2) if transposed else updates
        shape, updates = updates.shape, updates.flatten(2)
        tall = max(1.0, updates.shape[1] / updates.shape[2]) ** 0.5
        updates = orthogonalise(updates).reshape(shape)
        updates = updates.transpose(1, 2) if transposed else updates
        updates = updates if factors is None else updates * factors
        torch._foreach_add_(weights, list(updates.unbind()), alpha=-group["lr"] * tall)
