"""`basic-train info`: describe a checkpoint or a preset."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from basic_train.cli.setup import extra_packages


@click.command()
@click.argument("checkpoint", required=False, type=click.Path(path_type=Path))
@click.option("--preset", help="Describe a preset instead of a checkpoint.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(checkpoint: Path | None, preset: str | None, as_json: bool) -> None:
    """Print configuration, parameters, cost and history of a model.safetensors or of a run's folder."""
    if checkpoint is None and preset is None:
        raise click.UsageError("name a checkpoint, or a preset with --preset")
    if checkpoint is not None and preset is not None:
        raise click.UsageError(f"{checkpoint} and --preset {preset}: one at a time")
    with extra_packages("describing a model"):
        facts = _facts(checkpoint, preset)
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    from rich.console import Console

    from basic_train.info import render

    Console().print(render(facts), highlight=False)


def _facts(checkpoint: Path | None, preset: str | None) -> dict[str, Any]:
    from basic_train.checkpoint import read_header
    from basic_train.info import describe
    from basic_train.model.presets import PRESETS

    if checkpoint is not None:
        return describe(*read_header(checkpoint))
    if preset not in PRESETS:
        raise click.UsageError(f"unknown preset {preset!r}; known: {', '.join(PRESETS)}")
    return describe(PRESETS[preset])
