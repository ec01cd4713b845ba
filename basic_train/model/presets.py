"""Named model configurations: plain dataclasses, no registry."""

from __future__ import annotations

import difflib
import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from basic_train.grouping import Grouping, tiled
from basic_train.model.context import ContextShape


@dataclass(frozen=True)
class ModelConfig:
    """Everything that fixes the shape of a supernet.

    widths: of g_a and g_s, ascending; hyper_widths: of h_a and h_s; priors and contexts: channels of the
    prior of y and of the context model at each h_s width. scale_parameter: what the context model's second
    output means, "log" (index into the scale table, linear in ln sigma) or "linear" (sigma itself, as in the
    original). grouping: stage of each channel group and phase as nested lists (G, t, t).
    """

    preset: str
    backbone: str
    widths: tuple[int, ...]
    hyper_widths: tuple[int, ...]
    priors: tuple[int, ...]
    contexts: tuple[ContextShape, ...]
    y_channels: int
    z_channels: int
    grouping_name: str
    grouping: list[list[list[int]]]
    scale_parameter: str = "log"
    context_kernel: int = 5
    context_slope: float = 0.01
    quarter_blocks: int = 2
    eighth_blocks: int = 5
    latent_blocks: int = 0
    lambda_min: float = 0.0014
    lambda_max: float = 0.14
    quality_anchors: int = 8
    levels: list[dict[str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        counts = {len(v) for v in (self.widths, self.hyper_widths, self.priors, self.contexts)}
        if len(counts) != 1:
            raise ValueError("widths, hyper_widths, priors and contexts need one entry per width")
        if self.backbone not in ("lite", "paper"):
            raise ValueError(f"unknown backbone {self.backbone!r}; known: lite, paper")

    def grouping_map(self) -> Grouping:
        return Grouping(self.grouping_name, np.array(self.grouping))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> ModelConfig:
        """The inverse of `to_json` after a trip through JSON (lists become tuples again)."""
        fixed = dict(values)
        for name in ("widths", "hyper_widths", "priors"):
            fixed[name] = tuple(fixed[name])
        fixed["contexts"] = tuple(ContextShape(**shape) for shape in fixed["contexts"])
        return cls(**fixed)

    def changed(self, changes: dict[str, Any]) -> ModelConfig:
        """The same model with other values of fields. A `grouping_name` alone brings its grouping along, of as many
        channel groups as before. Raises ValueError for unknown fields and for values that do not go together."""
        if not changes:
            return self
        values = self.to_json()
        for name in changes.keys() - values.keys():
            near = difflib.get_close_matches(name, values, 1)
            raise ValueError(f"unknown field {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        values = json.loads(json.dumps(values | changes))
        if "grouping_name" in changes and "grouping" not in changes:
            values["grouping"] = tiled(changes["grouping_name"], len(self.grouping)).tile.tolist()
        return type(self).from_json(values)

    def with_grouping(self, name: str, groups: int) -> ModelConfig:
        """The same model with another fixed grouping."""
        return replace(self, grouping_name=name, grouping=tiled(name, groups).tile.tolist())


def _slim_contexts(channels: tuple[int, ...]) -> tuple[ContextShape, ...]:
    return tuple(ContextShape(c, c, c) for c in channels)


#: For CPUs and fast training: 16.9 kMAC/pixel for g_a and g_s at full width, 1.4 at the smallest. 256 latents, as
#: 128 cap the picture at 35 dB and 192 at 37 (docs/lab.md).
LITE = ModelConfig(
    preset="lite",
    backbone="lite",
    widths=(48, 72, 96, 144, 192),
    hyper_widths=(32, 48, 64, 96, 128),
    priors=(48, 96, 128, 192, 256),
    contexts=_slim_contexts((48, 96, 128, 192, 256)),
    y_channels=256,
    z_channels=64,
    grouping_name="group-diagonal",
    grouping=tiled("group-diagonal", 2).tile.tolist(),
    context_slope=2.0**-7,
    latent_blocks=3,
    lambda_min=0.0009,
    lambda_max=0.16,
)

#: A minute-to-train miniature of `lite` with every part in place: for tests and for trying things out.
TINY = replace(
    LITE,
    preset="tiny",
    widths=(16, 24, 32),
    hyper_widths=(8, 12, 16),
    priors=(16, 24, 32),
    contexts=_slim_contexts((16, 24, 32)),
    y_channels=16,
    z_channels=8,
    quarter_blocks=1,
    eighth_blocks=1,
    latent_blocks=1,
    lambda_min=0.0014,
    lambda_max=0.14,
)

#: The original joint autoregressive model (model-spec §1): 5x5 convolutions, GDN, 192 channels, wide context.
PAPER = ModelConfig(
    preset="paper",
    backbone="paper",
    widths=(48, 72, 96, 144, 192),
    hyper_widths=(48, 72, 96, 144, 192),
    priors=(384,) * 5,
    contexts=(ContextShape(384, 640, 512),) * 5,
    y_channels=192,
    z_channels=192,
    grouping_name="group-diagonal",
    grouping=tiled("group-diagonal", 2).tile.tolist(),
    scale_parameter="linear",
)

PRESETS = {config.preset: config for config in (LITE, TINY, PAPER)}
