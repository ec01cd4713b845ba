"""Runs a command over many files: names of outputs, progress, a summary, errors that do not stop the rest."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Event, Thread
from threading import enumerate as enumerate_threads
from typing import TYPE_CHECKING, Any, TypeVar

import click

from basic_runtime.cli.errors import STOPPED, undisturbed
from basic_runtime.cli.folders import Input, Inputs, find_inputs, is_folder
from basic_runtime.cli.options import check_named
from basic_runtime.errors import BasicError, FileError
from basic_runtime.files import STANDARD_OUTPUT, STREAM, check_target, display_name, make_folder, reason
from basic_runtime.threads import default_threads

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

Result = dict[str, Any]
_Outcome = TypeVar("_Outcome")

PATIENCE = 1.0
"""Seconds that a single file may take without a word on a terminal."""

_THREADS = "files"
"""How the names begin of threads that work on files."""

_OTHERS = {"skipped": "skipped", "error": "failed"}
"""Keys of results that are none of the command's work, and how a summary calls them."""


@dataclass(frozen=True)
class Job:
    """One input and where its output goes; `-` is a standard stream, a target of "" none. One with an error fails."""

    source: str
    target: str = ""
    error: BasicError | None = None


@dataclass(frozen=True)
class Plan:
    """What a command is to do, and a note for the end: on what lies in its folders and is not done."""

    jobs: list[Job]
    note: str = ""


def plan_jobs(
    sources: Sequence[str],
    output: str | None,
    out_dir: str | None,
    extension: str,
    known: Collection[str],
    overwrite: bool,
    skip_existing: bool,
    keep_extension: bool | None = None,
) -> Plan:
    """Pair inputs with outputs; a folder stands for the files of `known` extensions in it, whose tree is kept under
    `out_dir`. Of inputs that would get one output, all but the first fail. `keep_extension`: whether the output's
    extension goes behind the input's; None where a command has no such option.

    Raises click.UsageError for options that contradict each other, FileError for a folder without such files.
    """
    output = STREAM if output in STANDARD_OUTPUT else output
    _check_options(sources, output, out_dir, overwrite, skip_existing, bool(keep_extension))
    inputs = find_inputs(sources, known)
    jobs = [_job(each, output, out_dir, extension, bool(keep_extension)) for each in inputs.found.values()]
    if out_dir is not None:
        for folder in (Path(out_dir), *{Path(job.target).parent for job in jobs if job.target}):
            make_folder(folder)
    return Plan(_refuse_doubles(jobs, keep_extension is False), _note(inputs, known, extension))


def plan_reading(sources: Sequence[str]) -> list[Job]:
    """Packed files to read, without outputs; a folder stands for those in it.

    Raises click.UsageError if standard input is named twice, FileError for a folder without such files.
    """
    from basic_runtime.container import EXTENSION

    inputs = find_inputs(sources, [EXTENSION])
    return [Job(each.source, error=each.error) for each in inputs.found.values()]


def _check_options(
    sources: Sequence[str],
    output: str | None,
    out_dir: str | None,
    overwrite: bool,
    skip_existing: bool,
    keep_extension: bool,
) -> None:
    check_named("-o or --out-dir", output, out_dir)
    if overwrite and skip_existing:
        raise click.UsageError("--overwrite and --skip-existing exclude each other")
    if output is None:
        return
    if out_dir is not None:
        raise click.UsageError("-o and --out-dir exclude each other")
    if keep_extension:
        raise click.UsageError("-o and --keep-extension exclude each other")
    if len(sources) > 1:
        raise click.UsageError("-o names one output and there are several inputs: use --out-dir")
    if is_folder(sources[0]):
        raise FileError(f"{sources[0]}: is a folder, and -o names one file: use --out-dir")


def _job(given: Input, output: str | None, out_dir: str | None, extension: str, keep_extension: bool) -> Job:
    if given.error is not None:
        return Job(given.source, error=given.error)
    return Job(given.source, output or _default_target(given, out_dir, extension, keep_extension))


def _note(inputs: Inputs, known: Collection[str], extension: str) -> str:
    """On files that were left out by their names. Outputs that lie beside their inputs are none of them."""
    counts = Counter(each for each in inputs.left_out.values() if each != extension)
    count = counts.total()
    if not count:
        return ""
    which = ", ".join(f"{number} {each or 'without an extension'}" for each, number in counts.most_common())
    if len(known) == 1:
        why = f"not named {next(iter(known))}"
    else:
        why = "no picture by its name" if count == 1 else "no pictures by their names"
    return f"left out {count} {'file that is' if count == 1 else 'files that are'} {why}: {which}"


def check_output(job: Job, overwrite: bool) -> None:
    """Raises FileError if the output is the input itself, or cannot or may not be written."""
    if job.target != STREAM and os.path.realpath(job.target) == os.path.realpath(job.source):
        raise FileError(f"{job.target}: is the input itself: name another output with -o")
    check_target(job.target, overwrite)


def run_jobs(
    plan: Plan,
    work: Callable[[Job], Result],
    *,
    describe: Callable[[Result], str],
    summarise: Callable[[list[Result], float], str],
    as_json: bool,
    workers: int,
    skip_existing: bool = False,
) -> None:
    """Call `work` on each job, `workers` at a time; it returns what --json prints, and raises BasicError for a
    bad file. `summarise` gets the results and the seconds that all took. Where `skip_existing`, jobs whose output is
    there are left out.

    What it lists under "notices" is printed. Results go to standard output, all else to standard error.
    Exits with status 1 if any job failed, and with 130 after Ctrl-C, when all that is done is told.
    """
    jobs = plan.jobs
    if as_json and any(job.target == STREAM for job in jobs):
        raise click.UsageError("--json and an output to standard output exclude each other")
    start = time.perf_counter()
    attempt = partial(_attempt, work=work, skip_existing=skip_existing)
    report = partial(_report, describe=describe, quiet=as_json)
    results, stopped = run_all(jobs, attempt, report, workers)
    seconds = time.perf_counter() - start
    with undisturbed() if stopped else nullcontext():
        if as_json:
            click.echo(json.dumps(results, indent=2))
        if len(jobs) > 1:
            click.echo(_summary(results, lambda done: summarise(done, seconds)), err=True)
        if plan.note:
            click.echo(f"basic-run: note: {plan.note}", err=True)
    exit_after(len(jobs), len(results), stopped, any("error" in result for result in results))


def run_all(
    jobs: Sequence[Job],
    attempt: Callable[[Job], _Outcome],
    report: Callable[[Job, _Outcome], None],
    workers: int,
) -> tuple[list[_Outcome], bool]:
    """What `attempt` made of each job, `workers` at a time, in order, each reported, and whether Ctrl-C left some jobs
    out."""
    finished: dict[int, _Outcome] = {}
    reported = 0

    def finish(number: int) -> None:
        finished[number] = attempt(jobs[number])

    try:
        with _progress(jobs) as advance, _calls(finish, len(jobs), workers) as calls:
            for _ in calls:
                reported += 1
                report(jobs[reported - 1], finished[reported - 1])
                advance()
    except KeyboardInterrupt:  # by now those that had begun are done, unless it came twice
        with undisturbed():
            for number in sorted(set(finished) - set(range(reported))):
                report(jobs[number], finished[number])
            return [finished[number] for number in sorted(finished)], True
    return [finished[number] for number in range(len(jobs))], False


def exit_after(jobs: int, done: int, stopped: bool, failed: bool) -> None:
    """Exits with status 130 if Ctrl-C stopped the jobs, which is said, and with 1 if one failed."""
    if stopped:
        with undisturbed():
            click.echo(f"basic-run: stopped: {jobs - done} of {jobs} files are not done", err=True)
            if any(thread.name.startswith(_THREADS) for thread in enumerate_threads()):  # Ctrl-C came twice
                for stream in (sys.stdout, sys.stderr):
                    if stream is not None:
                        stream.flush()
                os._exit(STOPPED)  # else the interpreter would wait for them
        click.get_current_context().exit(STOPPED)
    if failed:
        click.get_current_context().exit(1)


def _summary(results: list[Result], summarise: Callable[[list[Result]], str]) -> str:
    done = [result for result in results if not {"error", "skipped"} & set(result)]
    counts = {what: sum(key in result for result in results) for key, what in _OTHERS.items()}
    return summarise(done) + "".join(f"; {count} {what}" for what, count in counts.items() if count)


def share_cores(
    jobs: int, workers: int | None, threads: int | None, cores: int | None = None, *, timed: bool = False
) -> tuple[int, int | None]:
    """How many files at a time, and threads of the engine for each, as --jobs and --threads ask.

    Several files run side by side on one thread each: what of the work has no threads, such as reading and
    writing pictures, then keeps no core idle. `timed` work is done one by one unless asked otherwise, as files side
    by side slow each other down.
    """
    workers = 1 if timed and workers is None else workers
    cores = default_threads() if cores is None else cores
    workers = min(jobs, cores if workers is None else workers)
    if threads is None and workers > 1:
        threads = max(1, cores // workers)
    return workers, threads


@contextmanager
def _calls(call: Callable[[int], None], count: int, workers: int) -> Iterator[Iterator[None]]:
    """Calls with 0, 1, 2 ... in order; leaving early drops those that have not begun, and waits for the others.

    A single call is made here, where Ctrl-C ends it. Of several even one at a time is made on a thread, so that
    none ends between writing its file and telling so.
    """
    if count == 1:
        yield map(call, range(count))
        return
    from concurrent.futures import ThreadPoolExecutor  # one picture needs none

    pool = ThreadPoolExecutor(workers, _THREADS)
    try:
        yield pool.map(call, range(count))
    finally:
        pool.shutdown(cancel_futures=True)


def _attempt(job: Job, work: Callable[[Job], Result], skip_existing: bool) -> Result:
    start = time.perf_counter()
    target = display_name(job.target, output=True)
    named: Result = {"input": display_name(job.source)} | ({"output": target} if target else {})
    try:
        if job.error is not None:
            raise job.error
        if skip_existing and job.target != STREAM and Path(job.target).is_file():
            return named | {"skipped": True}
        return named | work(job) | {"seconds": round(time.perf_counter() - start, 4)}
    except BrokenPipeError:
        raise
    except (BasicError, MemoryError, OSError) as error:
        return named | {"error": failure_line(error, job, target, str(Path(target)))}


def failure_line(error: BasicError | MemoryError | OSError, job: Job, *others: str) -> str:
    """The line for a job that failed, with the input's name in front unless that, or one of others', is there."""
    name = display_name(job.source)
    if isinstance(error, MemoryError):
        return f"{name}: not enough memory for this picture"
    if isinstance(error, OSError):
        return f"{name}: {reason(error)}"
    return error.named_line(name, *others)


def _report(job: Job, result: Result, describe: Callable[[Result], str], *, quiet: bool) -> None:
    if "error" in result:
        click.echo(f"basic-run: error: {result['error']}", err=True)
        return
    if "skipped" in result:
        if not quiet:
            click.echo(f"{result['input']} -> {result['output']}  is there, skipped")
        return
    for notice in result.get("notices", []):
        click.echo(f"basic-run: note: {display_name(job.source)}: {notice}", err=True)
    if not quiet:
        click.echo(describe(result), err=job.target == STREAM)


@contextmanager
def _progress(jobs: Sequence[Job]) -> Iterator[Callable[[], None]]:
    """A progress bar on standard error if that is a terminal; for a single job, how long it has been going on."""
    if not jobs or sys.stderr is None or not sys.stderr.isatty():
        yield lambda: None
        return
    if len(jobs) == 1:
        with _elapsed(display_name(jobs[0].source)):
            yield lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn

    with _shown(BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task("", total=len(jobs))
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


def _default_target(given: Input, out_dir: str | None, extension: str, keep_extension: bool) -> str:
    source = Path(given.source)
    if given.source == STREAM:
        if out_dir is not None:
            raise click.UsageError("standard input has no name to use in --out-dir: use -o")
        return STREAM
    if source.name:
        source = source.with_name(source.name + extension) if keep_extension else source.with_suffix(extension)
    return str(source if out_dir is None else Path(out_dir) / given.folder / source.name)


def _refuse_doubles(jobs: Sequence[Job], may_keep_extension: bool) -> list[Job]:
    """The jobs, where those that would write what one before them writes, by whatever name, have an error instead."""
    first: dict[str, Job] = {}
    checked = []
    for job in jobs:
        before = first.setdefault(os.path.realpath(job.target), job) if job.target not in ("", STREAM) else job
        checked.append(job if before is job else _refused(job, before, may_keep_extension))
    return checked


def _refused(job: Job, before: Job, may_keep_extension: bool) -> Job:
    kept = may_keep_extension and Path(job.source).suffix != Path(before.source).suffix
    way_out = f"{'use --keep-extension, ' if kept else ''}rename one, or name its output with -o"
    reason = f"would be written to {job.target}, as {before.source} is: {way_out}"
    return replace(job, error=FileError(f"{job.source}: {reason}"))
