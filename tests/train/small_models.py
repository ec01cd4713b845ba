"""Presets shrunk to what a test can train, and what models cost by the specification."""

from typing import Any

from basic_train.model.config import ModelConfig
from basic_train.model.context import GroupedContext

LATENTS = 16


def small(config: ModelConfig) -> dict[str, Any]:
    """Changes that shrink a preset to its structure: as many widths, constant where they were."""

    def widths(values: tuple[int, ...]) -> list[int]:
        return [8 + 4 * i if len(set(values)) == len(values) else 16 for i in range(len(values))]

    changes = {name: widths(getattr(config, name)) for name in ("widths", "hyper_widths", "analysis_widths")}
    changes["latents"] = widths(config.latents)
    latents = max(changes["latents"], default=LATENTS)
    changes |= {"y_channels": latents, "z_channels": latents}
    grouped = config.context == "grouped"
    prior = 2 * LATENTS if grouped else LATENTS
    changes["priors"] = changes["latents"] or [prior] * len(config.widths)
    shape = {"context": 16, "hidden1": 24, "hidden2": 16}
    return changes | {"contexts": [shape] * len(config.widths) if grouped else []}


def dense_macs(context: GroupedContext, index: int) -> float:
    """Multiply-accumulates per position of y of one unmasked pass at a width, as model-spec §1.5 counts."""
    shape = context.shapes[index]
    masked = context.y_channels * context.kernel**2 * shape.context
    merger = (shape.context + context.priors[index]) * shape.hidden1
    return masked + merger + shape.hidden1 * shape.hidden2 + shape.hidden2 * 2 * context.y_channels
