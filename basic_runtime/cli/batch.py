"""Runs a command over many files, several at a time: an error in one does not stop the rest, and a summary ends it."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from threading import enumerate as enumerate_threads
from typing import Any, TypeVar

import click

from basic_runtime.cli import progress
from basic_runtime.cli.errors import STOPPED, undisturbed
from basic_runtime.cli.lines import printable, tell_error, tell_note
from basic_runtime.cli.plan import Job, Plan
from basic_runtime.errors import BasicError
from basic_runtime.files import STREAM, display_name, reason
from basic_runtime.threads import default_threads

Result = dict[str, Any]
_Outcome = TypeVar("_Outcome")

_THREADS = "files"
"""The prefix of the names of threads that work on files."""

_OTHERS = {"skipped": "skipped", "error": "failed"}
"""Keys of results on which the command did no work, and what a summary calls them."""


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
    Exits with status 1 if any job failed, and with 130 after Ctrl-C, once all that is done is reported.
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
            tell_note(plan.note)
    exit_after(len(jobs), len(results), stopped, any("error" in result for result in results))


def run_all(
    jobs: Sequence[Job],
    attempt: Callable[[Job], _Outcome],
    report: Callable[[Job, _Outcome], None],
    workers: int,
) -> tuple[list[_Outcome], bool]:
    """Attempt all jobs, `workers` at a time, and report each in order. Returns what `attempt` gave for each, and
    whether Ctrl-C left some jobs out."""
    finished: dict[int, _Outcome] = {}
    reported = 0

    def finish(number: int) -> None:
        finished[number] = attempt(jobs[number])

    try:
        names = [printable(display_name(job.source)) for job in jobs]
        with progress.files(names) as advance, _calls(finish, len(jobs), workers) as calls:
            for _ in calls:
                reported += 1
                report(jobs[reported - 1], finished[reported - 1])
                advance()
    except KeyboardInterrupt:  # the jobs that had begun are done now, unless it came twice
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
    """The number of files at a time, and of threads of the engine for each, as --jobs and --threads ask.

    Several files run side by side on one thread each, so that work without threads, such as reading and writing
    pictures, keeps no core idle. `timed` work is done one by one unless asked otherwise, as files side
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
    """The line for a job that failed. It begins with the input's name, or with one of `others` if the error does."""
    name = display_name(job.source)
    if isinstance(error, MemoryError):
        return f"{name}: not enough memory for this picture"
    if isinstance(error, OSError):
        return f"{name}: {reason(error)}"
    return error.named_line(name, *others)


def _report(job: Job, result: Result, describe: Callable[[Result], str], *, quiet: bool) -> None:
    if "error" in result:
        tell_error(result["error"])
        return
    if "skipped" in result:
        if not quiet:
            click.echo(printable(f"{result['input']} -> {result['output']}  is there, skipped"))
        return
    for notice in result.get("notices", []):
        tell_note(f"{display_name(job.source)}: {notice}")
    if not quiet:
        click.echo(printable(describe(result)), err=job.target == STREAM)
