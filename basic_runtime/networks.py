"""Runs the graphs of a bundle on a picture, whole or in tiles."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from basic_runtime.arguments import whole
from basic_runtime.bundle import Bundle
from basic_runtime.engines import AUTO, Backend, Engine, create_backend
from basic_runtime.engines.base import INT16
from basic_runtime.engines.native import native_engines
from basic_runtime.engines.pixel_path import PixelPath
from basic_runtime.entropy import GroupedEntropy
from basic_runtime.errors import BasicError, BundleError, EngineError, EngineMismatchError
from basic_runtime.flow import Crew, RowStep, Sink, Source, Step, TileStep, Trace, limit, no_trace
from basic_runtime.golden import check_golden, ensure_golden
from basic_runtime.latent import Latent
from basic_runtime.manifest import LevelSpec
from basic_runtime.planes import Constant, Planes
from basic_runtime.threads import ProcessLock, default_threads
from basic_runtime.tiles import TILE_PIXELS, Canvas, Rows

_BYTES_PER_PIXEL = 32
"""Of the largest tensor of a graph of which the bundle does not say it, for each pixel of the picture."""

_log = logging.getLogger("basic_runtime")  # warnings go to standard error unless the program says otherwise


@dataclass(frozen=True)
class Runner:
    """A back-end, and threads that run tiles side by side on it."""

    backend: Backend
    crew: Crew

    @property
    def threads(self) -> int:
        """Threads of one run of a graph."""
        return self.backend.threads or default_threads()


@dataclass(frozen=True)
class VariantCheck:
    """Result of one golden vector: `error` is None if the engine reproduced it, or, if `native`, this package did."""

    variant: int
    error: BasicError | None
    native: bool


class Networks:
    """The graphs of a bundle on a back-end. They are loaded when they are first needed, and kept."""

    def __init__(self, bundle: Bundle, backend: Backend, tile_pixels: int | None, trace: Trace) -> None:
        """Raises ValueError or TypeError for `tile_pixels` that are no multiple of a tile's alignment."""
        self.bundle, self.backend, self._trace = bundle, backend, trace
        if tile_pixels is not None:
            tile_pixels, align = whole("tile_pixels", tile_pixels), bundle.manifest.z_stride
            if tile_pixels <= 0 or tile_pixels % align:
                raise ValueError(f"tile_pixels={tile_pixels}: must be a multiple of {align}")
        self.longest = self._longest_tile()
        wanted = tile_pixels or self.longest or TILE_PIXELS
        self.tile_pixels = min(wanted, self.longest or wanted)
        self._engines: dict[tuple[str, Backend], Engine] = {}
        self._entropy: dict[tuple[int, Backend], GroupedEntropy] = {}
        self._pixel_path = PixelPath(bundle)
        self._lock = ProcessLock()
        self.whole = Runner(backend, Crew())
        self._tiled: Runner | None = None
        self._integers: Runner | None = None

    def load(self, level: int, quality_step: int) -> None:
        """Load all graphs of a level now, for a quality step."""
        spec = self.bundle.level(level)
        for graph_id in (spec.g_a, spec.h_a, spec.g_s):
            self._pixel_engine(graph_id, quality_step, self.whole)
        self.entropy_on(spec.entropy_variant, self.whole)

    def verify(self) -> list[VariantCheck]:
        """Run every golden vector of the bundle on this engine, whatever is remembered of earlier runs."""
        results = []
        for variant in range(len(self.bundle.manifest.entropy_variants)):
            native, found = False, None
            try:
                entropy = self._load_entropy(variant, self.whole)
                native = entropy.native
                check_golden(self.bundle, variant, self.backend, entropy)
            except BasicError as error:
                found = error
            results.append(VariantCheck(variant, found, native))
        return results

    def layer_times(self, graph_id: str) -> dict[str, float]:
        """Milliseconds of each layer of a graph's engine in a repetition of its last run, if engines can tell."""
        return self._engine(graph_id, self.whole).layer_times()

    def canvas(self, width: int, height: int) -> Canvas:
        """The padded canvas for a picture of this size."""
        align = self.bundle.manifest.z_stride
        height, width = (-(-side // align) * align for side in (height, width))
        canvas = Canvas(height, width, self.tile_pixels, align, self.longest)
        return replace(canvas, threads=self._runner(canvas).threads)

    def grouped_entropy(self, variant: int, canvas: Canvas) -> GroupedEntropy:
        """An entropy variant, on what computes such a picture. Raises EngineError where that is not exact."""
        return self.entropy_on(variant, self._runner(canvas))

    def steps(
        self,
        graph: str,
        quality_step: int,
        sources: dict[str, Source],
        sink: Sink,
        canvas: Canvas,
        *,
        side: int | None = None,
    ) -> Sequence[Step]:
        """A graph of the pixel path from its inputs to its output, over the rows of a picture that is too large to be
        computed whole, as many at a time as a square of this `side` has."""
        if canvas.whole or not self._in_fixed_point(graph) or self.longest is not None:
            return self._in_tiles(graph, quality_step, sources, sink, canvas, side=side)
        spec, runner = self.bundle.graph(graph), self._runner(canvas)
        (engine,) = self._pixel_path.engines(graph, quality_step, runner.threads)
        ((output,), parts) = engine.outputs, () if spec.parts is None else spec.parts.graphs
        side = side or canvas.side_for(max((part.bytes_per_pixel for part in parts), default=_BYTES_PER_PIXEL) / 2)
        inputs = self._sources_of(spec.transform, engine, sources)
        return [RowStep(spec.transform, engine, inputs, {output: sink}, canvas, side=side, trace=self._trace)]

    def _in_tiles(
        self,
        graph: str,
        quality_step: int,
        sources: dict[str, Source],
        sink: Sink,
        canvas: Canvas,
        *,
        side: int | None = None,
    ) -> list[TileStep]:
        """The same with tiles of this `side`, and in parts on a picture in tiles. Engines that are built ahead of time
        are those of whole graphs."""
        spec, runner = self.bundle.graph(graph), self._runner(canvas)
        if canvas.whole or spec.parts is None or self.longest is not None:
            engine = self._pixel_engine(graph, quality_step, runner)
            return [self._step(spec.transform, engine, sources, {}, sink, canvas, reach=spec.reach, side=side)]
        engines: Sequence[Engine]
        if fixed := self._in_fixed_point(graph):
            engines = self._pixel_path.engines(graph, quality_step, runner.threads, parts=True)
        else:
            engines = [self._engine(part.id, runner) for part in spec.parts.graphs]
        between = {key: Planes(canvas, stride, integers=fixed) for key, stride in spec.parts.strides.items()}
        return [
            self._step(
                spec.transform,
                engine,
                sources | between,
                between,
                sink,
                canvas,
                reach=part.reach,
                side=canvas.side_for(part.bytes_per_pixel / (2 if fixed else 1)),
            )
            for engine, part in zip(engines, spec.parts.graphs, strict=True)
        ]

    def synthesis(
        self,
        graph: str,
        quality_step: int,
        latent: Latent,
        pixels: Sink,
        canvas: Canvas,
        rows: Iterable[Rows] | None = None,
    ) -> Sequence[Step]:
        """A g_s at a quality step, from the latent to pixels; of strips in tiles if just some `rows` are wanted."""
        sources: dict[str, Source] = {"y": latent, "gain": Constant(self.bundle.decode_gain(quality_step), canvas)}
        if rows is None:
            return self.steps(graph, quality_step, sources, pixels, canvas)
        steps = self._in_tiles(graph, quality_step, sources, pixels, canvas)
        limit(steps, rows)
        return steps

    def refining_step(
        self,
        spec: LevelSpec,
        quality_step: int,
        passes: int,
        sources: Mapping[str, Source],
        sinks: Mapping[str, Sink],
        canvas: Canvas,
    ) -> Step:
        """The step that replaces g_a and h_a where an effort pays for passes, in integers whatever the engine. Tiles
        run one after the other: each takes all threads, and the memory of a whole g_s."""
        from basic_runtime.refine import BYTES_PER_PIXEL, MARGIN, Graphs, Refinement

        runner, path = self._in_integers(), self._pixel_path
        g_a, h_a = (path.engines(graph, quality_step, runner.threads)[0] for graph in (spec.g_a, spec.h_a))
        gradient = path.gradient(spec.g_s, quality_step, runner.threads)
        graphs = Graphs(g_a, h_a, gradient, self.entropy_on(spec.entropy_variant, runner))
        refinement = Refinement(graphs, self.bundle, quality_step, passes)
        known = self.bundle.graph(spec.g_a).reach is not None
        reach = MARGIN // self.bundle.manifest.y_stride if known else None
        return TileStep(
            "refinement",
            refinement,
            sources,
            sinks,
            canvas,
            reach=reach,
            side=canvas.side_for(BYTES_PER_PIXEL),
            trace=self._trace,
        )

    def refines(self, spec: LevelSpec) -> bool:
        """Whether latents of a level can be refined: the bundle says how to do all of that in integers."""
        path = self._pixel_path
        return path.has(spec.g_a) and path.has(spec.h_a) and path.has_gradient(spec.g_s)

    def tile_trace(self, canvas: Canvas) -> Trace:
        """The trace for what happens within a tile, which is not timed where tiles run side by side."""
        return self._trace if canvas.whole else no_trace

    def entropy_on(self, variant: int, runner: Runner) -> GroupedEntropy:
        """An entropy variant on this runner's engine, once that has proved itself."""
        with self._lock:
            key = variant, runner.backend
            if key not in self._entropy:
                self._entropy[key] = self._proven_entropy(variant, runner)
            return self._entropy[key]

    def _longest_tile(self) -> int | None:
        """The longest side of a tile that engines take which are built ahead of time; None where they take any."""
        limit, align = self.backend.tile_limit(self.bundle.path), self.bundle.manifest.z_stride
        return None if limit is None else limit // align * align

    def _step(
        self,
        name: str,
        engine: Engine,
        sources: Mapping[str, Source],
        between: Mapping[str, Sink],
        sink: Sink,
        canvas: Canvas,
        *,
        reach: int | None,
        side: int | None = None,
    ) -> TileStep:
        """The step of a graph that reads some of `sources` and writes to `between`, or else to `sink`."""
        outputs = {key: between.get(key, sink) for key in engine.outputs}
        return TileStep(
            name,
            engine,
            self._sources_of(name, engine, sources),
            outputs,
            canvas,
            reach=reach,
            side=side,
            crew=self._runner(canvas).crew,
            trace=self._trace,
        )

    def _sources_of(self, name: str, engine: Engine, sources: Mapping[str, Source]) -> dict[str, Source]:
        """Those that a graph reads."""
        unknown = set(engine.inputs) - set(sources)
        if unknown:
            raise BundleError(f"{self.bundle.path}: a graph of {name} reads {min(unknown)!r}, which nothing gives")
        return {key: sources[key] for key in engine.inputs}

    def _in_integers(self) -> Runner:
        """A runner for whole graphs on this package's own integers."""
        if self.backend.native_entropy:
            return self.whole
        with self._lock:
            if self._integers is None:
                self._integers = Runner(create_backend(AUTO, self.backend.threads), Crew())
            return self._integers

    def _in_fixed_point(self, graph: str) -> bool:
        return self.backend.precision == INT16 and self._pixel_path.has(graph)

    def _pixel_engine(self, graph: str, quality_step: int, runner: Runner) -> Engine:
        """A whole graph of the pixel path, at a quality step where that matters."""
        if self._in_fixed_point(graph):
            return self._pixel_path.engines(graph, quality_step, runner.threads)[0]
        return self._engine(graph, runner)

    def _runner(self, canvas: Canvas) -> Runner:
        """The runner for a picture: tiles may be faster side by side, on engines of fewer threads."""
        if canvas.whole:
            return self.whole
        with self._lock:
            if self._tiled is None:
                backend, count = self.backend.side_by_side()
                self._tiled = Runner(backend, Crew(count))
            return self._tiled

    def _engine(self, graph_id: str, runner: Runner) -> Engine:
        with self._lock:
            key = graph_id, runner.backend
            if key not in self._engines:
                self._engines[key] = self._load_engine(graph_id, runner.backend)
            return self._engines[key]

    def _load_engine(self, graph_id: str, backend: Backend) -> Engine:
        spec = self.bundle.manifest.graphs.get(graph_id)  # parts of graphs are of the pixel path
        return backend.load(
            self.bundle.graph_path(graph_id),
            external_data=self.bundle.weights_folder,
            strict=spec is not None and spec.path == "entropy",
        )

    def _proven_entropy(self, variant: int, runner: Runner) -> GroupedEntropy:
        """An entropy variant on this engine, or on the one that stands in for it where it is not exact."""
        try:
            entropy = self._load_entropy(variant, runner)
            ensure_golden(self.bundle, variant, runner.backend, entropy)
            return entropy
        except EngineMismatchError:
            raise
        except EngineError as error:
            name, threads = runner.backend.entropy_fallback, runner.backend.threads
            if name is None:
                raise
            _log.warning("note: the entropy path runs on engine %r, because %s", name, error)
            return self._proven_entropy(variant, Runner(create_backend(name, threads), runner.crew))

    def _load_entropy(self, variant: int, runner: Runner) -> GroupedEntropy:
        backend = runner.backend
        native = native_engines(self.bundle, variant, backend.threads) if backend.native_entropy else None
        load = native.__getitem__ if native else lambda graph: self._engine(graph, runner)
        return GroupedEntropy(self.bundle, variant, load, runner.crew, runner.threads)
