"""Prepares a training set from start to end."""

from __future__ import annotations

import csv
import io
import json
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from basic_runtime.errors import FileError, ImageError
from basic_runtime.files import is_hidden, write_bytes
from basic_train.prepare.duplicates import near_duplicates
from basic_train.prepare.journal import Journal
from basic_train.prepare.pictures import (
    SUFFIXES,
    Hashes,
    Source,
    Written,
    convert,
    read_hashes,
    read_header,
    transparency,
)
from basic_train.prepare.procedure import Procedure, Size
from basic_train.progress import Progress, silent
from basic_train.signals import held_back

INDEX_FILE = "index.csv"
#: Folder in the training set for what the next run goes on from.
STATE_FOLDER = ".prepare"
WRITTEN_FILE = "written.jsonl"
#: Names below the training set that its PNGs have or had: all else there is the user's.
TARGETS_FILE = "targets.jsonl"
HASHES_FILE = "differences.jsonl"
COLUMNS = ("file", "source", "width", "height", "source_width", "source_height", "factor", "sha256")

#: `map` over some processes.
Workers = Callable[[Callable[[Any], Any], list[Any]], Iterator[Any]]
R = TypeVar("R")

#: Headers, which take a fraction of a millisecond, that a worker process reads at once.
CHUNK = 256


@dataclass
class Outcome:
    """What became of the source folder's pictures: how many were written now or by an earlier run; which were left out
    as too small, as duplicates of which others, or as not chosen; a message per file that is damaged or no photo; and
    PNGs of an earlier run that no longer belong to the set."""

    written: int = 0
    already_there: int = 0
    too_small: list[str] = field(default_factory=list)
    duplicates: dict[str, str] = field(default_factory=dict)
    not_chosen: list[str] = field(default_factory=list)
    unusable: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)

    @property
    def pictures(self) -> int:
        """Pictures of the training set."""
        return self.written + self.already_there

    def left_out(self) -> str:
        """How many for which reason."""
        return (
            f"{len(self.too_small)} too small, {len(self.duplicates)} duplicates, {len(self.unusable)} not usable, "
            f"{len(self.not_chosen)} not chosen"
        )


class Preparation:
    """A training set in the making: `run` writes PNGs and index.csv to `out` and goes on where it was stopped.

    jobs: worker processes. Raises FileError for folders that do not do, that hold other files or a set made by other
    rules, and ImageError if no picture remains.
    """

    def __init__(
        self, source: Path, out: Path, procedure: Procedure, jobs: int = 1, progress: Progress = silent
    ) -> None:
        self.source, self.out, self.procedure = source, out, procedure
        self.jobs, self.progress = jobs, progress
        self.outcome = Outcome()
        if not source.is_dir():
            raise FileError(f"{source}: no such folder; name the folder with the photos")
        if source.resolve() == out.resolve():
            raise FileError(f"{out}: is the source itself; name another folder for the training set")

    def run(self) -> Outcome:
        """Prepare the set, or the rest of it."""
        self._settle()
        with self._workers() as workers:
            planned = self._plan(workers)
            planned = self._without_transparent(workers, planned)
            planned = self._without_duplicates(workers, planned)
            self._convert(workers, self._choose(planned))
        return self.outcome

    def _settle(self) -> None:
        """Make the folders, and note the rules that the set is made by; they hold once a picture is written."""
        rules, written = self.out / STATE_FOLDER / "procedure.json", self.out / STATE_FOLDER / WRITTEN_FILE
        text = json.dumps(asdict(self.procedure), indent=1)
        try:
            others = self.out.is_dir() and any(not is_hidden(Path(name)) for name in os.listdir(self.out))
            if others and not rules.exists():
                raise FileError(f"{self.out}: holds files that are of no training set; choose an empty or new folder")
            rules.parent.mkdir(parents=True, exist_ok=True)
            begun = written.exists() and written.stat().st_size > 0
            before = rules.read_text() if begun else text
        except OSError as error:
            raise FileError(f"{self.out}: cannot be written ({error.strerror}); choose another folder") from error
        if before != text:
            raise FileError(
                f"{self.out}: holds a set made with other options (see {rules}); repeat those, or choose another folder"
            )
        write_bytes(rules, text.encode(), overwrite=True)

    @contextmanager
    def _workers(self) -> Iterator[Workers]:
        """A `map` over worker processes, in order and one by one, so that little is lost when the run is stopped;
        without processes for one job."""
        if self.jobs == 1:
            yield map
            return
        # Threads draw the progress bar, and forked copies of a threaded process may hang.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(self.jobs, mp_context=context) as pool:

            def spread(function: Callable[[Any], Any], tasks: list[Any]) -> Iterator[Any]:
                with held_back():  # processes start as tasks come in
                    return pool.map(function, tasks)

            try:
                yield spread
            except BrokenProcessPool as error:
                raise ImageError(
                    f"{self.out}: a worker process was killed, perhaps for want of memory; the same command "
                    "goes on, with fewer --jobs if need be"
                ) from error
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _watch(self, stage: str, results: Iterable[R], total: int) -> Iterator[R]:
        self.progress(stage, 0, total)
        for done, result in enumerate(results, 1):
            yield result
            self.progress(stage, done, total)

    def _plan(self, workers: Workers) -> dict[Source, Size]:
        """Sources that are large enough, and the sizes of their results."""
        names = self._names()
        chunks = [names[i : i + CHUNK] for i in range(0, len(names), CHUNK)]
        headers = chain.from_iterable(workers(partial(_headers, self.source), chunks))
        planned: dict[Source, Size] = {}
        for header in self._watch("reading headers", headers, len(names)):
            if isinstance(header, str):
                self.outcome.unusable.append(header)
                continue
            size = self.procedure.result(header.width, header.height, header.lossy)
            if size is None:
                self.outcome.too_small.append(header.name)
            else:
                planned[header] = size
        return planned

    def _names(self) -> list[str]:
        """Picture files below the source folder but hidden ones, sorted, without those of the training set."""
        files = (p for p in self.source.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        paths = (p.relative_to(self.source) for p in files)
        names = (path.as_posix() for path in paths if not is_hidden(path))
        root, out = self.source.resolve(), self.out.resolve()
        inside = f"{out.relative_to(root).as_posix()}/" if out.is_relative_to(root) else None
        return sorted(n for n in names if (inside is None or not n.startswith(inside)) and self._is_text(n))

    def _is_text(self, name: str) -> bool:
        """Whether the index can hold a name; else notes its file as not usable."""
        try:
            name.encode()
        except UnicodeEncodeError:
            self.outcome.unusable.append(f"{self.source / name}: its name is not UTF-8; rename the file")
            return False
        return True

    def _without_transparent(self, workers: Workers, planned: dict[Source, Size]) -> dict[Source, Size]:
        """Without pictures that are transparent, where these would count among the chosen: hashes find them, too."""
        procedure = self.procedure
        if not procedure.skip_transparent or procedure.near is not None or procedure.count is None:
            return planned
        suspects = [source for source in planned if source.alpha]
        found = workers(partial(transparency, self.source), [source.name for source in suspects])
        reasons = dict(zip(suspects, self._watch("looking for transparency", found, len(suspects)), strict=True))
        self.outcome.unusable += [reason for reason in reasons.values() if reason is not None]
        return {source: size for source, size in planned.items() if reasons.get(source) is None}

    def _without_duplicates(self, workers: Workers, planned: dict[Source, Size]) -> dict[Source, Size]:
        near = self.procedure.near
        if near is None:
            return planned
        hashes: dict[str, str] = {}
        with Journal(self.out / STATE_FOLDER / HASHES_FILE) as journal:
            missing = [s.name for s in planned if _fact(journal, s) is None]
            stamps = {source.name: source.stamp for source in planned}
            read = partial(read_hashes, self.source, skip_transparent=self.procedure.skip_transparent)
            found = workers(read, missing)
            for name, result in zip(missing, self._watch("hashing", found, len(missing)), strict=True):
                if isinstance(result, Hashes):
                    journal.add(name, {"stamp": stamps[name], "difference": result.difference})
                else:
                    self.outcome.unusable.append(result)
            hashes = {s.name: fact["difference"] for s in planned if (fact := _fact(journal, s))}
        order = [source.name for source in _largest_first(planned) if source.name in hashes]
        copies = near_duplicates(hashes, order, near)
        self.outcome.duplicates = copies
        return {s: size for s, size in planned.items() if s.name in hashes and s.name not in copies}

    def _choose(self, planned: dict[Source, Size]) -> dict[Source, Size]:
        count = self.procedure.count
        if count is None or count >= len(planned):
            return planned
        if self.procedure.choose == "largest":
            chosen = _largest_first(planned)[:count]
        else:
            sources = list(planned)
            indexes = np.random.default_rng(self.procedure.seed).permutation(len(sources))[:count]
            chosen = [sources[i] for i in sorted(indexes)]
        self.outcome.not_chosen = sorted(source.name for source in planned.keys() - set(chosen))
        return {source: planned[source] for source in chosen}

    def _convert(self, workers: Workers, chosen: dict[Source, Size]) -> None:
        """Write what is missing, then the index of all."""
        targets = target_names([source.name for source in chosen])
        with Journal(self.out / STATE_FOLDER / WRITTEN_FILE) as journal:
            missing = [
                source
                for source in chosen
                if _written(journal, source, targets[source.name]) is None
                or not (self.out / targets[source.name]).exists()
            ]
            own = self._own_files(journal, [targets[source.name] for source in missing])
            self._make_folders(targets[source.name] for source in missing)
            tasks = [(source, self.out / targets[source.name], chosen[source]) for source in missing]
            found = workers(partial(_convert_task, self.source, self.procedure), tasks)
            for source, result in zip(missing, self._watch("writing", found, len(missing)), strict=True):
                if isinstance(result, Written):
                    fact = {"stamp": source.stamp, "target": targets[source.name], **asdict(result)}
                    journal.add(source.name, fact)
                    self.outcome.written += 1
                else:
                    self.outcome.unusable.append(result)
            done = {source: fact for source in chosen if (fact := _written(journal, source, targets[source.name]))}
        self.outcome.already_there = len(done) - self.outcome.written
        if not done:
            raise ImageError(f"{self.source}: no picture remains: {self._reasons()}")
        rows = [
            (
                targets[s.name],
                s.name,
                fact["width"],
                fact["height"],
                s.width,
                s.height,
                f"{chosen[s].factor:.4g}",
                fact["sha256"],
            )
            for s, fact in sorted(done.items(), key=lambda item: item[0].name)
        ]
        _write_index(self.out / INDEX_FILE, rows)
        there = {path.relative_to(self.out).as_posix() for path in self.out.rglob("*.png")}
        self.outcome.stale = sorted((there & own) - {row[0] for row in rows})

    def _own_files(self, written: Journal, targets: list[str]) -> set[str]:
        """The files that this set has or had, those that are about to be written among them: a run that is killed knows
        its own again. Raises FileError where one of these, or the index, is a file of the user."""
        with Journal(self.out / STATE_FOLDER / TARGETS_FILE) as journal:
            own = journal.facts.keys() | {fact["target"] for fact in written.facts.values()}
            for file in (*targets, *([] if own else [INDEX_FILE])):
                if file not in own and os.path.lexists(self.out / file):
                    raise FileError(f"{self.out / file}: is no file of this set; move it, or choose another folder")
            for file in targets:
                if file not in own:
                    journal.add(file, {})
        return own | set(targets)

    def _make_folders(self, files: Iterable[str]) -> None:
        for folder in {(self.out / file).parent for file in files}:
            folder.mkdir(parents=True, exist_ok=True)

    def _reasons(self) -> str:
        if not (self.outcome.too_small or self.outcome.unusable):
            return "there is none below this folder"
        return self.outcome.left_out()


def _headers(root: Path, names: list[str]) -> list[Source | str]:
    return [read_header(root, name) for name in names]


def _convert_task(root: Path, procedure: Procedure, task: tuple[Source, Path, Size]) -> Written | str:
    source, target, size = task
    return convert(root, source, target, size, procedure)


def _fact(journal: Journal, source: Source) -> dict[str, Any] | None:
    """What the journal knows about this version of a source."""
    fact = journal.facts.get(source.name)
    return fact if fact is not None and fact["stamp"] == source.stamp else None


def _written(journal: Journal, source: Source, target: str) -> dict[str, Any] | None:
    """What the journal knows of this version of a source in the file that it has now: names depend on the others."""
    fact = _fact(journal, source)
    return fact if fact is not None and fact["target"] == target else None


def _largest_first(sources: Iterable[Source]) -> list[Source]:
    return sorted(sources, key=lambda source: (-source.pixels, source.name))


def target_names(names: list[str]) -> dict[str, str]:
    """Name of the PNG of each source: that of the source with another suffix, or, where several in a folder
    differ in the suffix only, with a suffix more."""
    changed = {name: str(Path(name).with_suffix(".png")) for name in names}
    uses = Counter(changed.values()) + Counter(f"{name}.png" for name in names)
    return {name: new if uses[new] == 1 else f"{name}.png" for name, new in changed.items()}


def _write_index(path: Path, rows: Iterable[Iterable[object]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode(), overwrite=True)
