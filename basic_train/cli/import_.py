"""`basic-train import`: checkpoints of the original and of CompressAI."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from basic_runtime.cli.options import FiniteRange
from basic_runtime.files import check_target, make_folder
from basic_train.cli.setup import extra_packages

if TYPE_CHECKING:
    from basic_train.importing.run import Imported

_PATH = click.Path(path_type=Path)
_LAMBDA = FiniteRange(min=0, min_open=True)


@click.command("import")
@click.argument("file", type=_PATH)
@click.option("-o", "--output", required=True, type=_PATH, help="Checkpoint to write, a .safetensors file.")
@click.option("--codec", type=click.IntRange(min=0), help="Which model of a file of the original, from 0.")
@click.option(
    "--grouping",
    metavar="0-4|NAME",
    help="0 to 4: which one of a model of the original with five [default: 1, of eight stages]. A name: stands in for "
    "position-by-position decoding, that of 0 [default: checkerboard].",
)
@click.option("--lambda", "lambda_", type=_LAMBDA, help="That the model was trained for, if the file does not say.")
@click.option(
    "--lambda-range",
    type=(_LAMBDA, _LAMBDA),
    metavar="LOW HIGH",
    help="Of the qualities that the model is to learn [default: the model's one].",
)
@click.option("--overwrite", is_flag=True, help="Replace the output file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def import_(
    file: Path,
    output: Path,
    lambda_range: tuple[float, float] | None,
    grouping: str | None,
    overwrite: bool,
    as_json: bool,
    **choices: Any,
) -> None:
    """Make a checkpoint of FILE, a model of the original BaSIC or of CompressAI.

    \b
    basic-train import params.pkl --codec 2 -o imported.safetensors
    basic-train import mbt2018-4.pth.tar --lambda 0.013 -o imported.safetensors

    The widest width computes what the model did; narrower ones need training (basic-train run --preset paper
    --start-from). Code in pickled files is never run.
    """
    make_folder(output.parent)
    check_target(output, overwrite)
    if lambda_range and lambda_range[0] > lambda_range[1]:
        raise click.UsageError("--lambda-range: the lower value comes first")
    with extra_packages("importing a checkpoint"):
        from basic_train import checkpoint
        from basic_train.importing.run import Choices, import_file

        order = int(grouping) if re.fullmatch("[0-4]", grouping or "") else None
        name = grouping if order is None else None
        if name is not None:
            _check_grouping(name)
        chosen = Choices(lambda_range=lambda_range, order=order, grouping=name, **choices)
        imported = import_file(file, chosen)
        checkpoint.save(output, imported.net.state_dict(), imported.net.config, _history(file, imported))
    if as_json:
        config = imported.net.config.to_json()
        click.echo(json.dumps({"kind": imported.kind, "notices": imported.notices, "config": config}, indent=1))
        return
    for notice in imported.notices:
        click.echo(f"note: {notice}", err=True)
    click.echo(f"{output}: {imported.kind}")


def _check_grouping(name: str) -> None:
    from basic_train.grouping import tiled

    try:
        tiled(name, 1)
    except ValueError as error:
        raise click.UsageError(f"--grouping: {error}") from error


def _history(file: Path, imported: Imported) -> dict[str, Any]:
    """As a training run leaves it: nothing was trained here."""
    origin = {"imported": imported.kind, "file": file.name}
    return {"recipe": origin, "step": 0, "patches": 0, "minutes": 0.0, "previous": None}
