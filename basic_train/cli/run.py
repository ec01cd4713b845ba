"""`basic-train run`: train a supernet in a folder, or go on."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from basic_train.cli.setup import extra_packages
from basic_train.recipe import Recipe

if TYPE_CHECKING:
    from rich.console import Console

    from basic_train.train import Progress, Trainer

DEFAULT = Recipe()


def recipe_option(name: str, kind: Any, text: str) -> Any:
    """An option for a field of `Recipe`, whose default is the field's, or that of the run in the folder."""
    field = name.replace("-", "_")
    default = getattr(DEFAULT, field)
    shown = "" if default is None else f" [default: {default}]"
    return click.option(f"--{name}", field, type=kind, default=None, help=text + shown)


@click.command()
@click.option(
    "--data", required=True, type=click.Path(path_type=Path), help="Folder of photos, searched recursively."
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Folder of the run; an old run goes on."
)
@click.option(
    "--start-from",
    type=click.Path(path_type=Path),
    help="A new run begins with the weights of this checkpoint.",
)
@recipe_option("preset", str, "Model: lite, paper or tiny.")
@recipe_option("minutes", click.FloatRange(min=0, min_open=True), "Length of the schedule, over all resumes.")
@recipe_option("steps", click.IntRange(min=1), "Length of the schedule in steps, instead of minutes.")
@recipe_option("batch", click.IntRange(min=1), "Crops per step.")
@recipe_option("crop", click.IntRange(min=64), "Side of a crop, a multiple of 64.")
@recipe_option("learning-rate", click.FloatRange(min=0, min_open=True), "Of Adam, after the warm-up.")
@recipe_option("muon-rate", click.FloatRange(min=0, min_open=True), "Of Muon, after the warm-up.")
@recipe_option("warmup-steps", click.IntRange(min=1), "Steps in which the learning rate rises.")
@recipe_option(
    "decay", click.FloatRange(0, 1, min_open=True), "Share at the end in which the rate falls to zero."
)
@recipe_option("full-share", click.FloatRange(0, 1), "How often a transform runs at full width.")
@recipe_option("ema", click.FloatRange(0, 1), "Decay of the averaged weights that are saved.")
@recipe_option("seed", click.IntRange(min=0), "Of the weights, crops, widths and noise.")
@recipe_option("save-minutes", click.FloatRange(min=0), "Time between saves.")
@recipe_option("validation-photos", click.IntRange(min=1), "Held-out photos measured at each save.")
def run(data: Path, out: Path, start_from: Path | None, **given: Any) -> None:
    """Train a model in a folder, or go on with the run that the folder holds.

    Ctrl-C saves and stops; the same command resumes. Options that are not given keep the values of the
    folder's run.
    """
    from rich.console import Console

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces its precision
    console = Console()

    def report(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    with extra_packages("training"):
        from basic_train.train import MODEL_FILE, Trainer, stored_run

        stored = stored_run(out)
        recipe = _recipe(stored[1] if stored else DEFAULT, given)
        trainer = Trainer(recipe, out, data, report, start_from)
    with _stop_on_signals(trainer, report):
        _train(trainer, console, report)
    if trainer.finished:
        report(f"done: {out / MODEL_FILE}")
    else:
        report(f"stopped and saved at step {trainer.step}; the same command resumes")
        sys.exit(130)


def _recipe(base: Recipe, given: dict[str, Any]) -> Recipe:
    """The base with the options that the user gave. Minutes given replace the steps of an old run."""
    changes = {name: value for name, value in given.items() if value is not None}
    if "minutes" in changes and "steps" in changes:
        raise click.UsageError("give --minutes or --steps, not both")
    if "minutes" in changes:
        changes["steps"] = None
    try:
        return replace(base, **changes)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


@contextmanager
def _stop_on_signals(trainer: Trainer, report: Any) -> Iterator[None]:
    """Ctrl-C and termination end the run after the step at hand; a second one ends it at once."""

    def handle(number: int, frame: Any) -> None:
        report("stopping after this step")
        trainer.stop()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _train(trainer: Trainer, console: Console, report: Any) -> None:
    """Run with a progress bar on a terminal, else with a line per save."""
    if not console.is_terminal:
        trainer.run(on_save=lambda record: report(_save_line(record)))
        return
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (
        BarColumn(),
        TextColumn("{task.percentage:.1f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Bar(*columns, console=console) as bar:
        task = bar.add_task("starting", total=1.0)

        def on_step(progress: Progress) -> None:
            share = trainer.recipe.progress(progress.step, progress.minutes)
            bar.update(task, completed=share, description=_step_text(progress))

        trainer.run(on_step, lambda record: report(_save_line(record)))


def _step_text(progress: Progress) -> str:
    return (
        f"step {progress.step}  {progress.patches} patches  loss {progress.loss:.3f}  "
        f"{progress.bpp:.3f} bpp  {progress.psnr:.2f} dB  {progress.patches_per_second:.1f} patches/s"
    )


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
