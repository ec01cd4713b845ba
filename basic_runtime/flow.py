"""Graphs that feed each other, run over the rows of a picture: each starts as soon as it has enough to read.

What a graph wrote is dropped when all its readers are past it. So of a large picture only the few rows between one
graph and the next are in memory, and the pixels and coded symbols, which stay.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from basic_runtime.engines import Engine
from basic_runtime.engines.base import IntegerEngine, Phases, StreamEngine, TensorLike
from basic_runtime.errors import EngineError
from basic_runtime.planes import Planes
from basic_runtime.tiles import Canvas, Rows, Span, Tile

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

Trace = Callable[[str], AbstractContextManager[None]]
"""Called with the name of a part of the work; the context it returns spans that part."""


def no_trace(part: str) -> AbstractContextManager[None]:
    return nullcontext()


_Item = TypeVar("_Item")


class Crew:
    """Threads that do pieces of work side by side; a crew of one is the caller's own thread."""

    def __init__(self, size: int = 1) -> None:
        self.size = size
        self._made: tuple[int, ThreadPoolExecutor] | None = None

    def each(self, work: Callable[[_Item], None], items: Iterable[_Item]) -> None:
        """Call `work` on all items, and wait. Raises what the first that fails raises, once none runs any more."""
        if self.size == 1:
            for item in items:
                work(item)
            return
        from concurrent.futures import wait

        running = [self._pool().submit(work, item) for item in items]
        try:
            for future in running:
                future.result()
        finally:
            for future in running:
                future.cancel()
            wait(running)

    def _pool(self) -> ThreadPoolExecutor:
        """The threads of this process: a fork leaves its parent's behind."""
        from concurrent.futures import ThreadPoolExecutor  # most pictures are coded without

        process = os.getpid()
        if self._made is None or self._made[0] != process:
            self._made = process, ThreadPoolExecutor(self.size)
        return self._made[1]

    def shares(self, count: int) -> list[slice]:
        """A part of `count` things for each thread, as even as can be."""
        bounds = [count * number // self.size for number in range(self.size + 1)]
        return [slice(a, b) for a, b in zip(bounds, bounds[1:], strict=False) if a < b]


class Source(Protocol):
    """A tensor that a step reads: `stride` picture rows per row, there to row `done` of the picture."""

    stride: int

    @property
    def done(self) -> int: ...

    @property
    def planes(self) -> tuple[Planes, ...]:
        """The tensors that must stay as long as they are read."""

    def cut(self, tile: Tile) -> TensorLike:
        """What a graph reads for a tile, float32, C-contiguous."""

    def cut_kept(self, tile: Tile) -> TensorLike | Phases:
        """The same in the type and order in which it is kept, for an `IntegerEngine`."""


class Sink(Protocol):
    """A tensor that a step writes: rows of the picture are announced, written in parts by several threads, and
    ended."""

    stride: int

    def begin(self, first: int, last: int) -> None: ...

    def write(self, part: TensorLike, row: int, column: int) -> None: ...

    def end(self, first: int, last: int) -> None: ...


class Step(Protocol):
    """A graph that reads some tensors of the picture and writes others, from the top down."""

    done: int
    """The row of the picture to which it has been run."""

    @property
    def planes(self) -> tuple[Planes, ...]:
        """The tensors that it reads."""

    @property
    def needed(self) -> int:
        """The first row of the picture of what it reads that it will read again."""

    def ready(self) -> int:
        """The row of the picture to which it can be run now; `done` as long as there is too little to read."""

    def advance(self, last: int) -> None:
        """Run it on the rows of the picture up to `last`."""


class RowStep:
    """A step of an engine that keeps what it needs of earlier rows: all columns of some rows at a time, as many as a
    square of `side` has, and nothing is computed twice."""

    def __init__(
        self,
        name: str,
        engine: StreamEngine,
        sources: Mapping[str, Source],
        sinks: Mapping[str, Sink],
        canvas: Canvas,
        *,
        side: int,
        also: Sequence[Source] = (),
        after: Callable[[int, int], None] | None = None,
        trace: Trace = no_trace,
    ) -> None:
        """`after` is called with the first and last row of the picture that each run wrote, and reads those rows of
        `also`, which are there by then."""
        self.name, self._canvas, self._trace = name, canvas, trace
        self._sources, self._sinks, self._after = sources, sinks, after
        self._read = (*sources.values(), *also)
        self.planes = tuple(planes for source in self._read for planes in source.planes)
        self.done = self._written = 0
        self._rows = canvas.rows_at_once(side)
        self._advance = engine.stream()

    @property
    def needed(self) -> int:
        return self._written  # by `after`

    def ready(self) -> int:
        there, height = min(source.done for source in self._read), self._canvas.height
        last = min(height, self.done + self._rows)
        return last if there >= last else self.done

    def advance(self, last: int) -> None:
        while self.done < last:
            first, left = self._written, last == self._canvas.height  # all that is left is one piece to `after`
            found = self._found(min(last, self.done + self._rows))
            for sink in self._sinks.values():
                sink.begin(first, last if left else first + self._rows_of(found))
            self._write(found)
            while left and self.done < last:
                self._write(self._found(min(last, self.done + self._rows)))
            for sink in self._sinks.values():
                sink.end(first, self._written)
            if self._after is not None and first < self._written:
                self._after(first, self._written)

    def _found(self, last: int) -> Mapping[str, TensorLike]:
        """What is known by the rows of the picture up to `last`, and was not before."""
        tile = Tile(Span(self.done, last, self.done, last), Span(0, self._canvas.width, 0, self._canvas.width))
        with self._trace(self.name):
            given = {name: source.cut_kept(tile) for name, source in self._sources.items()}
            found = self._advance(given, last == self._canvas.height)
        self.done = last
        return found

    def _rows_of(self, found: Mapping[str, TensorLike]) -> int:
        """Rows of the picture."""
        name, sink = next(iter(self._sinks.items()))
        return found[name].shape[2] * sink.stride

    def _write(self, found: Mapping[str, TensorLike]) -> None:
        if rows := self._rows_of(found):
            with self._trace(self.name):
                for name, sink in self._sinks.items():
                    sink.write(_known(found[name]), self._written // sink.stride, 0)
            self._written += rows


class TileStep:
    """A step that runs an engine on one tile after the other, with margins.

    `reach` is in rows of its coarsest input, None if unknown: the graph then runs on the whole picture. `side` is that
    of its tiles, by default the canvas's.
    """

    def __init__(
        self,
        name: str,
        engine: Engine,
        sources: Mapping[str, Source],
        sinks: Mapping[str, Sink],
        canvas: Canvas,
        *,
        reach: int | None,
        side: int | None = None,
        also: Sequence[Source] = (),
        after: Callable[[int, int], None] | None = None,
        crew: Crew | None = None,
        trace: Trace = no_trace,
    ) -> None:
        """`after` is called with the first and last row of the picture of each run, and reads those rows of `also`.
        `crew` works on the tiles."""
        self.name, self._engine, self._canvas, self._trace = name, engine, canvas, trace
        self._sources, self._sinks, self._after = sources, sinks, after
        self._read = (*sources.values(), *also)
        self.planes = tuple(planes for source in self._read for planes in source.planes)  # the tensors that it reads
        self._side, self._crew = side or canvas.side, crew or Crew()
        unit = max(source.stride for source in sources.values())
        self._align = max(unit, *(sink.stride for sink in sinks.values()))
        self.margin = None if reach is None else -(-reach * unit // self._align) * self._align
        self.done = 0
        self._wanted: list[Rows] = [(0, canvas.height)]

    @property
    def needed(self) -> int:
        height = self._canvas.height
        return height if self.done >= height else max(0, self.done - (self.margin or 0))

    def ready(self) -> int:
        there, height = min(source.done for source in self._read), self._canvas.height
        if self.margin is None:
            return height if there == height else self.done
        if there < height:
            there = (there - self.margin) // self._align * self._align
            # Margins are missing from the first band: a step that waited for all of it would fall a band behind.
            if there - self.done < self._canvas.band // 4:
                return self.done
        return min(there, self.done + self._canvas.band)

    def advance(self, last: int) -> None:
        first = self.done
        with self._trace(self.name):
            for sink in self._sinks.values():
                sink.begin(first, last)
            for top, bottom in self._wanted:
                if (low := max(first, top)) < (high := min(last, bottom)):
                    tiles = self._canvas.tiles(low, high, self._side, self.margin, self._crew.size)
                    self._crew.each(self._run, tiles)
            for sink in self._sinks.values():
                sink.end(first, last)
        self.done = last
        if self._after is not None:
            self._after(first, last)

    def limit(self, rows: Iterable[Rows]) -> list[Rows]:
        """Be run on so many rows of the picture as these, which rise, need, and leave the others of what it writes as
        they are. Returns the rows that it then reads."""
        if self.margin is None or self._canvas.whole:
            return [(0, self._canvas.height)]
        self._wanted = []
        for first, last in rows:
            top, bottom = first // self._align * self._align, -(-last // self._align) * self._align
            if self._wanted and top <= self._wanted[-1][1]:
                top = self._wanted.pop()[0]
            self._wanted.append((top, bottom))
        height, margin = self._canvas.height, self.margin
        return [(max(0, top - margin), min(height, bottom + margin)) for top, bottom in self._wanted]

    def _run(self, tile: Tile) -> None:
        if isinstance(self._engine, IntegerEngine):
            found = self._engine.run({name: source.cut_kept(tile) for name, source in self._sources.items()})
        else:
            found = self._engine.run({name: source.cut(tile) for name, source in self._sources.items()})
        for name in self._sinks:
            self._write(name, _known(found[name]), tile)

    def _write(self, name: str, values: TensorLike, tile: Tile) -> None:
        sink, rows, columns = self._sinks[name], tile.rows, tile.columns
        stride = sink.stride
        wanted = (rows.stop - rows.start) // stride, (columns.stop - columns.start) // stride
        if values.shape[2:] != wanted:
            raise EngineError(f"{self.name} gave {name} of shape {values.shape}, not of {wanted} rows and columns")
        top, left = rows.first // stride, columns.first // stride
        above, beside = rows.start // stride, columns.start // stride
        inside = (top - above, rows.last // stride - above, left - beside, columns.last // stride - beside)
        if inside == (0, wanted[0], 0, wanted[1]):
            sink.write(values, top, left)
            return
        sink.write(np.asarray(values)[:, :, inside[0] : inside[1], inside[2] : inside[3]], top, left)


def _known(values: TensorLike) -> TensorLike:
    """An output of an engine, in float32 unless it has a type that tensors of a picture have."""
    if getattr(values, "dtype", np.float32) in (np.float32, np.int16, np.int32, np.uint8):
        return values
    return np.asarray(values).astype(np.float32)


def run(steps: Sequence[Step]) -> None:
    """Run all steps to the end of the picture, each as early as it can; a step reads what those before it write."""
    readers = readers_of(steps)
    while True:
        for step in reversed(steps):  # the last one first: it frees what it reads
            last = step.ready()
            if last > step.done:
                step.advance(last)
                drop_read(step, readers)
                break
        else:
            return


def limit(steps: Sequence[TileStep], rows: Iterable[Rows]) -> None:
    """Run steps, each of which alone reads what the one before it writes, so far as these rows of the picture that the
    last one writes need."""
    for step in reversed(steps):
        rows = step.limit(rows)


def last_readers(steps: Sequence[Step]) -> dict[Step, set[Planes]]:
    """The tensors that each of the steps reads last, if they run in their order, each to the end."""
    found: dict[Step, set[Planes]] = {step: set() for step in steps}
    for planes, readers in readers_of(steps).items():
        found[readers[-1]].add(planes)
    return found


def readers_of(steps: Sequence[Step]) -> dict[Planes, list[Step]]:
    """The steps that read each tensor."""
    readers: dict[Planes, list[Step]] = {}
    for step in steps:
        for planes in step.planes:
            readers.setdefault(planes, []).append(step)
    return readers


def drop_read(step: Step, readers: Mapping[Planes, Sequence[Step]]) -> None:
    """Drop the rows that no step will read again, after this one has been run."""
    for planes in step.planes:
        planes.drop(min(reader.needed for reader in readers[planes]))
