"""Named model configurations: plain dataclasses, no registry."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from basic_train.grouping import LEARNED, tiled
from basic_train.model.config import ModelConfig
from basic_train.model.context import ContextShape


def _slim_contexts(channels: tuple[int, ...]) -> tuple[ContextShape, ...]:
    return tuple(ContextShape(c, c, c) for c in channels)


#: For CPUs and fast training: 34.0 kMAC/pixel for each of g_a and g_s at full width; 1.8 and 3.5 at the smallest.
#: g_s is the wider there, as a decoder is worth more than an encoder of the same cost. 320 latents:
#: the best linear transform with 256 caps the picture at 40 dB, with 320 at 43 (docs/lab.md).
LITE = ModelConfig(
    preset="lite",
    backbone="lite",
    widths=(64, 96, 128, 192, 256),
    analysis_widths=(32, 72, 128, 192, 256),
    hyper_widths=(32, 48, 64, 96, 128),
    priors=(64, 96, 128, 192, 256),
    contexts=_slim_contexts((64, 96, 128, 192, 256)),
    y_channels=320,
    z_channels=64,
    grouping_name="group-diagonal",
    grouping=tiled("group-diagonal", 2).tile.tolist(),
    context_slope=2.0**-7,
    density="logistic",
    train_rounded=True,
    phase_bias=True,
    eighth_blocks=6,
    latent_blocks=3,
    linear_path=True,
    lambda_min=0.0009,
    lambda_max=0.16,
)

#: A minute-to-train miniature of `lite` with every part in place: for tests and for trying things out.
TINY = replace(
    LITE,
    preset="tiny",
    widths=(16, 24, 32),
    analysis_widths=(),
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

#: The original's combined entropy coder: groupings of 8, 6, 4 and 2 stages with context models of their own. The maps
#: were found on `lite` (docs/lab.md); in the place of its scanline, a stage per position, stands group-diagonal.
PAPER_COMBINED = replace(
    PAPER,
    preset="paper-combined",
    alternatives=[{"name": name, "tile": tile} for name, tile in LEARNED.items()],
)

#: The paper's joint autoregressive model with a universally slimmable decoder only: 13 widths of g_s.
USDECODER = replace(
    PAPER,
    preset="usdecoder",
    widths=tuple(range(48, 193, 12)),
    analysis_widths=(192,) * 13,
    hyper_widths=(192,) * 13,
    priors=(384,) * 13,
    contexts=(ContextShape(384, 640, 512),) * 13,
)

#: Scales from the hyperprior alone, at the five lambdas of CompressAI's qualities 1 to 5 (model-spec §2.1, §5.2).
HYPERPRIOR = replace(
    PAPER,
    preset="hyperprior",
    backbone="hyperprior",
    priors=(192,) * 5,
    contexts=(),
    context="scale-only",
    grouping_name="none",
    grouping=tiled("none", 1).tile.tolist(),
    lambda_min=0.0018,
    lambda_max=0.025,
    quality_anchors=5,
)

#: Its ablation: no width but the full one.
HYPERPRIOR_STATIC = replace(HYPERPRIOR, preset="hyperprior-static", widths=(192,), hyper_widths=(192,), priors=(192,))

#: Its comparison: one level sets the widths of all transforms and of the latents (Yang et al., "Slimmable compressive
#: autoencoders", 2021).
HYPERPRIOR_SLIMMABLE = replace(
    HYPERPRIOR, preset="hyperprior-slimmable", priors=HYPERPRIOR.widths, latents=HYPERPRIOR.widths
)

#: Its comparison: a universally slimmable decoder only.
HYPERPRIOR_USDECODER = replace(
    HYPERPRIOR,
    preset="hyperprior-usdecoder",
    widths=USDECODER.widths,
    analysis_widths=USDECODER.analysis_widths,
    hyper_widths=USDECODER.hyper_widths,
    priors=(192,) * 13,
)

#: Other transforms around the context model of `paper`, which grows with the latent (model-spec §1.4).
CHENG2020 = replace(
    PAPER,
    preset="cheng2020",
    backbone="cheng2020",
    widths=(32, 64, 96, 128),
    hyper_widths=(32, 64, 96, 128),
    priors=(256,) * 4,
    contexts=(ContextShape(256, 424, 340),) * 4,
    y_channels=128,
    z_channels=128,
)
ELIC = replace(PAPER, preset="elic", backbone="elic")

PRESETS = {
    config.preset: config
    for config in (
        LITE,
        TINY,
        PAPER,
        PAPER_COMBINED,
        USDECODER,
        HYPERPRIOR,
        HYPERPRIOR_STATIC,
        HYPERPRIOR_SLIMMABLE,
        HYPERPRIOR_USDECODER,
        CHENG2020,
        ELIC,
    )
}


def changed(base: ModelConfig, changes: dict[str, Any]) -> ModelConfig:
    """A preset, or a model of it, with other values of fields. Raises ValueError, which names the preset, for values
    that do not go together."""
    try:
        return base.changed(changes)
    except (TypeError, ValueError) as error:
        raise ValueError(f"preset {base.preset!r} cannot be changed so: {error}") from error
