"""`basic-train run`: train a supernet in a folder, or go on."""

from __future__ import annotations

import logging
import signal
import sys
from dataclasses import Field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from basic_runtime.cli.errors import STOPPED
from basic_train import recipes
from basic_train.cli.setup import extra_packages, field_values
from basic_train.devices import ACCELERATORS, Devices, leave
from basic_train.recipe import Recipe
from basic_train.signals import heard_by

if TYPE_CHECKING:
    from rich.console import Console

    from basic_train.train import StepReport, Trainer

DEFAULT = Recipe()


def _option(setting: Field[Any]) -> Any:
    """The option of a field of `Recipe`, whose default is that of the recipe or of the run in the folder."""
    name, kind = setting.name.replace("_", "-"), Recipe.kind(setting.name)
    text, known = setting.metadata["help"], setting.metadata.get("known")
    if kind is dict:
        return click.option(
            f"--{name}", setting.name, metavar="FIELD=VALUE", multiple=True, callback=field_values, help=text
        )
    default = getattr(DEFAULT, setting.name)
    if kind is bool:
        text += f" [default: {'yes' if default else 'no'}]"
        return click.option(f"--{name}/--no-{name}", setting.name, default=None, help=text)
    text += "" if default is None else f" [default: {default}]"
    return click.option(f"--{name}", setting.name, type=click.Choice(known) if known else kind, default=None, help=text)


def recipe_options(command: Any) -> Any:
    """Options for all fields of `Recipe`, in their order."""
    for setting in reversed(fields(Recipe)):
        command = _option(setting)(command)
    return command


@click.command()
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder of photos, searched recursively.")
@click.option(
    "-o",
    "--output",
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder of the run; an old run goes on.",
)
@click.option("--recipe", "recipe_name", metavar="NAME|FILE.toml", help="Values that are not given as options.")
@click.option(
    "--start-from",
    type=click.Path(path_type=Path),
    help="A new run begins with the weights of this checkpoint, which may have fewer channels.",
)
@click.option("--accelerator", type=click.Choice(ACCELERATORS), default="auto", show_default=True)
@click.option("--devices", type=click.IntRange(min=1), default=1, show_default=True, help="Processes on each node.")
@click.option(
    "--nodes",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Machines, with NODE_RANK, MASTER_ADDR and MASTER_PORT set on each. Under torchrun leave both.",
)
@recipe_options
def run(
    data: Path,
    output: Path,
    recipe_name: str | None,
    start_from: Path | None,
    accelerator: str,
    devices: int,
    nodes: int,
    **given: Any,
) -> None:
    """Train a model in a folder, or go on with the run that the folder holds.

    Ctrl-C saves and stops; the same command resumes. Without --recipe, options that are not given keep the values
    of the folder's run; those of a new run are of the recipe `lite`.
    """
    from rich.console import Console

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces its precision
    console = Console()

    def report(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    with extra_packages("training"):
        from basic_train.checkpoint import MODEL_FILE
        from basic_train.train import ModelError, Trainer, stored_run

        stored = stored_run(output)
        if stored and given["revive"] is not None:
            report(f"{output}: its run goes on; --revive is for new ones, and not done again")
            given["revive"] = stored[1].revive
        recipe = _recipe(_base(recipe_name, stored), given)
        places = Devices(accelerator, devices, nodes)
        stop = _Stop(places.several, report)
        with heard_by(stop.handle):
            try:
                trainer = Trainer(recipe, output, data, report, start_from, places)
            except ModelError as error:
                if recipe_name is None or given["model"] is not None:
                    raise
                raise error.in_file(recipe_name) from error
            stop.hand_over(trainer)
            _train(trainer, console, report)
    if trainer.fabric.is_global_zero:
        stopped = f"stopped and saved at step {trainer.step}; the same command resumes"
        report(f"done: {output / MODEL_FILE}" if trainer.finished else stopped)
    status = 0 if trainer.finished else STOPPED
    if places.several:
        leave(status)
    if status:
        sys.exit(status)


def _base(name: str | None, stored: tuple[Any, Recipe] | None) -> Recipe:
    """The recipe named, or that of the folder's run, or the default."""
    if name is not None:
        return recipes.load(name).recipe
    return stored[1] if stored else DEFAULT


def _recipe(base: Recipe, given: dict[str, Any]) -> Recipe:
    """The base with the options that the user gave. Minutes given replace the steps of an old run."""
    changes = {name: value for name, value in given.items() if value is not None}
    if "minutes" in changes and "steps" in changes:
        raise click.UsageError("give --minutes or --steps, not both")
    if "minutes" in changes:
        changes["steps"] = None
    try:
        recipe = replace(base, **changes)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    for name in changes:
        if reason := recipe.idle(name):
            raise click.UsageError(f"--{name.replace('_', '-')}: {reason}")
    return recipe


class _Stop:
    """What Ctrl-C and termination do: end the run after the step at hand, a second one at once. Before the first step a
    process ends at once; one of several waits until it can tell the others."""

    def __init__(self, several: bool, report: Any) -> None:
        self.several, self.report = several, report
        self.trainer: Trainer | None = None
        self.asked = False

    def hand_over(self, trainer: Trainer) -> None:
        self.trainer = trainer
        if self.asked:
            trainer.stop()

    def handle(self, number: int, frame: Any) -> None:
        if self.trainer is None and (self.asked or not self.several):
            raise KeyboardInterrupt
        self.asked = True
        if self.trainer is None:
            self.report("stopping when all processes have started")
            return
        self.trainer.report("stopping after this step")
        self.trainer.stop()
        for stopping in (signal.SIGINT, signal.SIGTERM):
            signal.signal(stopping, signal.default_int_handler)


def _train(trainer: Trainer, console: Console, report: Any) -> None:
    """Run with a progress bar on a terminal, else with a line per save."""
    if not (console.is_terminal and trainer.fabric.is_global_zero):
        trainer.run(on_save=lambda record: report(_save_line(record)))
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        BarColumn(16),
        TextColumn("{task.percentage:.1f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("starting", total=1.0)

        def on_step(done: StepReport) -> None:
            share = trainer.recipe.progress(done.step, done.minutes)
            bar.update(task, completed=share, description=_step_text(done))

        trainer.run(on_step, lambda record: report(_save_line(record)))


def _step_text(done: StepReport) -> str:
    return f"step {done.step} {done.bpp:.3f} bpp {done.psnr:.2f} dB {done.patches_per_second:.0f} patches/s"


def _save_line(record: dict[str, Any]) -> str:
    """One line: the state of training, and rate and PSNR of the held-out photos, widest and narrowest."""
    held_out: dict[int, list[str]] = {}
    for row in record["held_out"]:
        held_out.setdefault(row["width"], []).append(f"{row['bpp']:.3f}/{row['psnr']:.2f}")
    points = "; ".join(f"width {width}: {' '.join(values)}" for width, values in held_out.items())
    return (
        f"{record['minutes']:.1f} min, step {record['step']}, {record['patches']} patches, "
        f"loss {record['loss']:.3f}, {record['patches_per_second']:.1f} patches/s; held out bpp/dB {points}"
    )
