"""Distributions over groupings: what a learned grouping is drawn from while it is learned.

A distribution gives logits (G, S, t, t): of each of S stages, for each of G channel groups and each cell of a t x t
tile. What comes out of learning is the `Grouping` of the likeliest stages, plain integers (model-spec §3.4).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from basic_train.grouping import Grouping

#: Sizes of the original's generator.
NOISE, HIDDEN, FEATURES = 64, 256, 64

#: Shares of the tile's likeliest grouping are averaged over so many draws of the generator's noise.
DRAWS = 64

LIKELIHOOD_FLOOR = 1e-7


class DirectTopology(nn.Module):
    """A free parameter per channel group, stage and cell of the tile. Starts uniform."""

    def __init__(self, groups: int, stages: int, side: int = 2) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.zeros(groups, stages, side, side))

    def forward(self) -> Tensor:
        """Logits (G, S, t, t)."""
        return self.values


class TopologyPredictor(nn.Module):
    """The original's generator: fresh noise to logits through two hidden layers and a convolution over the tile."""

    def __init__(self, groups: int, stages: int, side: int = 2) -> None:
        super().__init__()
        self.shape = (groups, stages, side, side)
        cells = FEATURES * side**2
        self.head = nn.Linear(NOISE, HIDDEN)
        self.hidden = nn.Sequential(
            nn.Linear(HIDDEN, HIDDEN), nn.LeakyReLU(0.2), nn.Linear(HIDDEN, cells), nn.LeakyReLU(0.2)
        )
        self.tail = nn.Sequential(
            nn.BatchNorm2d(FEATURES), nn.ReLU(), nn.Conv2d(FEATURES, groups * stages, 3, padding=1)
        )
        for layer in self.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                nn.init.xavier_uniform_(layer.weight)

    def forward(self) -> Tensor:
        """Logits (G, S, t, t) of one draw of the noise."""
        groups, stages, side, _ = self.shape
        noise = torch.randn(1, NOISE, device=self.head.weight.device)
        cells = self.hidden(self.head(noise)).reshape(1, FEATURES, side, side)
        return self.tail(cells).reshape(groups, stages, side, side)


def likeliest(topology: nn.Module, name: str) -> Grouping:
    """The grouping of the likeliest stages. The module is used as it stands, and never again for this grouping:
    the original draws it anew whenever the module is moved, and decodes with another one then."""
    training = topology.training
    topology.eval()
    with torch.no_grad():
        shares = torch.stack([topology().softmax(1) for _ in range(DRAWS)]).mean(0)
    topology.train(training)
    return Grouping(name, shares.argmax(1).cpu().numpy())


def draw(logits: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Stages int64 (G, height, width), drawn at every position on its own, and the log-probability () of them all."""
    side = logits.shape[-1]
    repeats = (1, 1, -(-height // side), -(-width // side))
    tiled = logits.repeat(*repeats)[:, :, :height, :width].permute(0, 2, 3, 1)
    distribution = torch.distributions.Categorical(logits=tiled)
    labels = distribution.sample()
    return labels, distribution.log_prob(labels).sum()


def mean_rate(nats: Tensor) -> Tensor:
    """Nats per image (B,) of the mean probability over K samples; nats: of each element, (K, B, ...)."""
    mean = torch.logsumexp(-nats, 0) - torch.tensor(float(len(nats))).log()
    return -mean.clamp(min=torch.tensor(LIKELIHOOD_FLOOR).log().item()).flatten(1).sum(1)


def vimco(nats: Tensor, log_probabilities: Tensor) -> Tensor:
    """The score-function loss () of K sampled groupings (Mnih and Rezende, "Variational inference for Monte Carlo
    objectives", 2016): nats (K, B) of each image under each sample, log_probabilities (K,) of the samples.

    Its gradient moves probability to the samples that code better than the others.
    """
    likelihoods = -nats.detach()
    count = len(likelihoods)
    others = (likelihoods.sum(0) - likelihoods) / (count - 1)
    replaced = likelihoods[None].repeat(count, 1, 1)  # (sample left out, K, B)
    replaced[range(count), range(count)] = others
    gain = torch.logsumexp(likelihoods, 0) - torch.logsumexp(replaced, 1)  # (K, B)
    return -(gain.mean(1) * log_probabilities).sum()
