"""Progress bars on standard error, if that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Thread
from typing import TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

_Item = TypeVar("_Item")

PATIENCE = 1.0
"""Seconds that a single file may take before anything is shown."""


@contextmanager
def progress_bar(quiet: bool = False, *, lines: bool = False) -> Iterator[Callable[[str, int, int | None], None]]:
    """A function to call with what is being done, how much of it is done, and how much there is (None: not known yet);
    shows a bar, one part of the work after the other, unless `quiet` or standard error is no terminal; `lines` has each
    part told there as it begins."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if lines and not (quiet or console.is_terminal):
        yield _line_for_each_part()
        return
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=None)

        def show(what: str, done: int, total: int | None) -> None:
            bar.update(task, description=what, completed=done, total=total)

        yield show


def _line_for_each_part() -> Callable[[str, int, int | None], None]:
    told = ""

    def tell(what: str, done: int, total: int | None) -> None:
        nonlocal told
        if what != told:
            click.echo(what, err=True)
        told = what

    return tell


def tracked(items: Iterable[_Item], description: str, total: int) -> Iterator[_Item]:
    """The items, with a bar that counts them."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    yield from track(items, description, total, console=console, disable=not console.is_terminal, transient=True)


@contextmanager
def files(names: Sequence[str]) -> Iterator[Callable[[], None]]:
    """A function to call after each of these files; shows a bar, or of a single file how long it has been going on."""
    if not names or sys.stderr is None or not sys.stderr.isatty():
        yield lambda: None
        return
    if len(names) == 1:
        with _elapsed(names[0]):
            yield lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn

    with _shown(BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task("", total=len(names))
        yield lambda: bar.advance(task)


@contextmanager
def _elapsed(name: str) -> Iterator[None]:
    """The name and the time, once `PATIENCE` is over: until then nothing is loaded that would show it."""
    over = Event()

    def show() -> None:
        if over.wait(PATIENCE):
            return
        from rich.markup import escape
        from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

        with _shown(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()) as bar:
            bar.add_task(escape(name))
            over.wait()

    thread = Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _shown(*columns: ProgressColumn) -> Progress:
    from rich.console import Console
    from rich.progress import Progress

    # Lines for a terminal go above the bar; those for a file or pipe must stay on standard output.
    lines_above = sys.stdout is not None and sys.stdout.isatty()
    return Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=lines_above)
