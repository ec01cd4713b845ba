"""`basic-train levels`: search the widths of the complexity levels."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from basic_runtime.cli.options import FiniteRange
from basic_runtime.cli.progress import progress_bar
from basic_runtime.files import check_target, make_folder
from basic_train.cli.setup import extra_packages
from basic_train.recipe import CROP_MULTIPLE

if TYPE_CHECKING:
    from torch import Tensor

    from basic_train.levels import Candidates, Level, Search
    from basic_train.model.supernet import Supernet

UNITS = {"macs": "MAC per pixel", "ms": "ms, PyTorch, 768x512"}


class _Qualities(click.ParamType):
    name = "Q,Q,..."

    def convert(self, value: Any, parameter: Any, context: Any) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            qualities = tuple(float(part) for part in value.split(","))
        except ValueError:
            qualities = ()
        if not qualities or not all(0 <= quality <= 1 for quality in qualities):
            self.fail(f"{value!r} is no list of numbers from 0 to 1 like 0.1,0.5,0.9", parameter, context)
        return qualities


_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("checkpoint", type=_PATH)
@click.option("--data", required=True, type=_PATH, help="Folder of photos; those held out from training serve.")
@click.option("-o", "--output", required=True, type=_PATH, help="Checkpoint with the table; JSON and PNG go beside it.")
@click.option("--levels", "count", type=click.IntRange(2, 8), default=8, show_default=True, help="Number of levels.")
@click.option(
    "--cost",
    type=click.Choice(list(UNITS)),
    default="macs",
    show_default=True,
    help="Multiplications, or milliseconds of each transform in PyTorch on this machine.",
)
@click.option(
    "--side",
    type=click.Choice(["both", "encode", "decode"]),
    default="both",
    show_default=True,
    help="Whose cost counts.",
)
@click.option(
    "--spacing",
    type=click.Choice(["geometric", "linear"]),
    default="geometric",
    show_default=True,
    help="Of the levels' costs.",
)
@click.option(
    "--entropy-widths",
    type=click.IntRange(2),
    default=3,
    show_default=True,
    help="Widths of h_s that the table may use; each takes room in a bundle.",
)
@click.option(
    "--first-share",
    type=FiniteRange(0, 1, min_open=True, max_open=True),
    metavar="SHARE",
    help="Level 0: the best that costs at most this share of the last level. [default: the cheapest of all]",
)
@click.option(
    "--qualities",
    type=_Qualities(),
    default=(0.15, 0.5, 0.85),
    help="At which rates are compared: 0 is the lowest, 1 the highest [default: 0.15,0.5,0.85].",
)
@click.option("--held-out", type=click.IntRange(1), default=12, show_default=True, help="Held-out photos.")
@click.option("--crop", type=click.IntRange(CROP_MULTIPLE), default=256, show_default=True, help="Side of their crops.")
@click.option("--grouping", metavar="NAME", help="Of a model with several groupings, not the first but this one.")
@click.option(
    "--per-quality",
    is_flag=True,
    help="A table, and a checkpoint OUTPUT-qQUALITY, for each of --qualities; prints what one for all loses.",
)
@click.option("--half", is_flag=True, help="Store the weights as float16.")
@click.option("--overwrite", is_flag=True, help="Replace the output files.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def levels(
    checkpoint: Path,
    data: Path,
    output: Path,
    cost: str,
    qualities: tuple[float, ...],
    held_out: int,
    crop: int,
    grouping: str | None,
    per_quality: bool,
    half: bool,
    overwrite: bool,
    as_json: bool,
    **search: Any,
) -> None:
    """Find the widths of each complexity level of CHECKPOINT on held-out photos.

    \b
    basic-train levels runs/lite/model.safetensors --data photos -o lite.safetensors

    Every configuration of widths is ranked by the rate that it loses at equal quality. The table goes into a
    copy of the checkpoint, which basic-export takes it from.
    """
    if crop % CROP_MULTIPLE:
        raise click.UsageError(f"--crop {crop}: must be a multiple of {CROP_MULTIPLE}")
    targets = _targets(output, qualities) if per_quality else {output: qualities}
    make_folder(output.parent)
    for target in targets:
        for file in (target, *_reports(target)):
            check_target(file, overwrite)
    with extra_packages("the level search"):
        from basic_train import checkpoint as checkpoints
        from basic_train.data import held_out_crops
        from basic_train.devices import tune_allocator
        from basic_train.levels import Search

        tune_allocator()
        net, history = checkpoints.load_with_grouping(checkpoint, grouping)
        if len(net.config.widths) == 1:
            raise checkpoints.CheckpointError(f"{checkpoint}: has one width, of which there is nothing to search")
        options, crops = Search(**search), held_out_crops(data, crop, held_out, "pass a smaller --crop")
        shared, together = _search(net, crops, qualities, cost, options) if per_quality else (None, [])
        weights = net.state_dict()
        results: list[dict[str, Any]] = []
        for target, at in targets.items():
            found, table = _search(net, crops, at, cost, options)
            config = replace(net.config, levels=[level.widths._asdict() for level in table])
            stored = {name: value.half() if half else value for name, value in weights.items()}
            checkpoints.save(target, stored, config, history)
            results.append(_report(net, found, table, cost, at, target, as_json))
            if shared:
                results[-1]["loss_percent_of_one_table"] = _loss_of(found, together)
        _say(results, per_quality, as_json)


def _targets(output: Path, qualities: tuple[float, ...]) -> dict[Path, tuple[float, ...]]:
    """A checkpoint for each quality, named after it."""
    ending = output.name.removeprefix(_stem(output))
    return {output.with_name(f"{_stem(output)}-q{q:g}{ending}"): (q,) for q in qualities}


def _stem(output: Path) -> str:
    """The name without .safetensors; what else follows a dot is part of it, as in lite-q0.2."""
    return output.name.removesuffix(".safetensors")


def _reports(output: Path) -> tuple[Path, Path]:
    """JSON and plot beside a checkpoint."""
    report, plot = (output.with_name(f"{_stem(output)}.levels{ending}") for ending in (".json", ".png"))
    return report, plot


def _loss_of(found: Candidates, table: list[Level]) -> float:
    """Percent of rate that another table's levels lose at these qualities, mean over levels."""
    losses = [found.code(found.configurations.index(level.widths)).loss_percent for level in table]
    return sum(losses) / len(losses)


def _say(results: list[dict[str, Any]], per_quality: bool, as_json: bool) -> None:
    """JSON of all tables, or what one table for all qualities loses against theirs."""
    if as_json:
        click.echo(json.dumps(results if per_quality else results[0], indent=1))
        return
    for result in results if per_quality else []:
        own = sum(level["loss_percent"] for level in result["levels"]) / len(result["levels"])
        click.echo(
            f"quality {result['qualities'][0]:g}: mean loss {own:+.2f} %, "
            f"with one table for all {result['loss_percent_of_one_table']:+.2f} %"
        )


def _search(
    net: Supernet, crops: Tensor, qualities: tuple[float, ...], cost: str, options: Search
) -> tuple[Candidates, list[Level]]:
    """Costs and losses of all configurations and the table of levels, with a progress bar on a terminal."""
    from basic_train.evaluator import Evaluator, latencies
    from basic_train.levels import candidates, search
    from basic_train.model.cost import Costs

    with progress_bar() as show:
        show("costs", 0, None)
        costs = Costs.of(net) if cost == "macs" else latencies(net)
        found = candidates(Evaluator(net, crops, qualities), costs, options.side, show)
        return found, search(found, options, show)


def _report(
    net: Supernet,
    found: Candidates,
    table: list[Level],
    cost: str,
    qualities: tuple[float, ...],
    output: Path,
    as_json: bool,
) -> dict[str, Any]:
    """JSON and plot beside the checkpoint, and the table on the screen unless JSON is wanted; returns the values."""
    from rich.console import Console

    from basic_runtime.files import write_bytes
    from basic_train import levels_report

    values = levels_report.as_json(table, UNITS[cost], qualities)
    report, plot = _reports(output)
    write_bytes(report, json.dumps(values, indent=1).encode() + b"\n", overwrite=True)
    levels_report.plot(found, table, UNITS[cost], plot)
    if not as_json:
        Console().print(levels_report.table(net, table, UNITS[cost]), highlight=False)
    return values
