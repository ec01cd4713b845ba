"""Builds the engines of a bundle: each distinct graph once per target, from a cache where one was built before."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx
from onnx import ModelProto

from basic_export import typed
from basic_export.errors import ExportError
from basic_export.folders import whole_folder
from basic_export.options import PICTURE_SIZES
from basic_export.tensorrt import EngineBuilder, Profile, known_targets, require_target
from basic_runtime.bundle import Bundle
from basic_runtime.cache import cache_folder, store
from basic_runtime.engines.engine_set import (
    INDEX_FILE,
    PORTABLE,
    EngineFile,
    EngineSet,
    Shape,
    Sizes,
    engine_path,
    portable_serves,
    set_folder,
    unserved,
)
from basic_runtime.engines.tensorrt_library import Library
from basic_runtime.manifest import GraphSpec, Manifest
from basic_train.progress import Progress

#: Of pictures, unless told.
SIZES = Sizes(*PICTURE_SIZES)


@dataclass(frozen=True)
class Built:
    """One engine of a report; cached: whether an earlier build's file was taken; seconds of the build itself."""

    target: str
    graph: str
    transform: str
    width: int
    precision: str
    bytes: int
    seconds: float
    cached: bool


@dataclass(frozen=True)
class EngineReport:
    """What was built, where, and with what."""

    bundle: Path
    library: str
    version: str
    sizes: Sizes
    engines: list[Built]
    seconds: float


def choose_targets(library: Library, capabilities: Sequence[int]) -> tuple[list[str], list[str]]:
    """Targets for compute capabilities (86 for 8.6), and notices on those that have none of their own.

    Without any: PORTABLE where the library has it, else this machine's GPU. GPUs that the library does not run on are
    left out. Raises ExportError for a capability that it cannot build for, or when none is left.
    """
    known = known_targets(library)
    if not capabilities:
        return known[-1:], []
    targets, notices = [], []
    for capability in capabilities:
        target = f"sm{capability}"
        if target in known:
            targets.append(target)
        elif PORTABLE in known and portable_serves(capability):
            notices.append(f"{library.name} {library.version} has no target {target}: {PORTABLE} is built instead")
            targets.append(PORTABLE)
        elif PORTABLE in known and unserved(capability):
            notices.append(
                f"{library.name} does not run on compute capability {capability / 10}: left out; "
                "use onnxruntime-cuda there, or --engine tensorrt"
            )
        else:
            require_target(library, target)
    if not targets:
        raise ExportError(f"no engines to build: {notices[0]}")
    return list(dict.fromkeys(targets)), notices


def build_engines(
    bundle: Bundle,
    library: Library,
    targets: Sequence[str],
    progress: Progress,
    *,
    precision: str = "fp16",
    sizes: Sizes = SIZES,
) -> EngineReport:
    """Build engines for all graphs of a bundle and write them into it, a set per target.

    precision: of the pixel path, "fp16" or "fp32"; the entropy path is float32 always. Raises ExportError (a graph or
    target that the library refuses), FileError (a bundle that cannot be written), EngineError, MissingExtraError.
    """
    started = time.perf_counter()
    specs = list(bundle.manifest.graphs.values())
    built: list[Built] = []
    for target in targets:
        timings = _cache() / f"{library.name}-{library.version}-{target}.timings"
        builder = EngineBuilder(library, target, timings)  # before there is a folder, as the library may be missing
        place = set_folder(bundle.path, library.name, library.version, target)
        with whole_folder(place, "name a new bundle with -o") as folder:
            job = _Set(bundle, builder, precision, sizes, folder)
            for spec in specs:
                progress(f"{target}: {spec.transform} {spec.width}", len(built), len(specs) * len(targets))
                built.append(job.add(spec))
            job.write_index()
    return EngineReport(bundle.path, library.name, library.version, sizes, built, time.perf_counter() - started)


def copy_bundle(source: Path, target: Path) -> None:
    """Copy a bundle to the new folder `target`, which appears whole or not at all. Raises FileError."""
    with whole_folder(target) as folder:
        shutil.copytree(source, folder, dirs_exist_ok=True)


def profile_of(bundle: Bundle, spec: GraphSpec, model: ModelProto, sizes: Sizes) -> Profile:
    """Shapes of a graph's inputs for pictures of `sizes`; larger pictures come in tiles with a margin."""
    manifest = bundle.manifest

    def shapes(width: int, height: int) -> dict[str, Shape]:
        found = {}
        for value in model.graph.input:
            dims = value.type.tensor_type.shape.dim
            sides = [dim.dim_value or side for dim, side in zip(dims[2:], (height, width), strict=True)]
            found[value.name] = (1, dims[1].dim_value, *sides)
        return found

    def whole(size: tuple[int, int]) -> dict[str, Shape]:
        width, height = (input_side(manifest, spec, side) for side in size)
        return shapes(width, height)

    width, height = (largest_side(manifest, spec, side) for side in sizes.largest)
    return Profile(whole(sizes.smallest), whole(sizes.typical), shapes(width, height))


def _rows_of(manifest: Manifest, graph: GraphSpec) -> int:
    """Pixels of the picture that one input row or column of a graph stands for."""
    if graph.transform != "stage":
        strides = {"g_a": 1, "h_a": manifest.y_stride, "h_s": manifest.z_stride, "g_s": manifest.y_stride}
        return strides[graph.transform]
    return manifest.y_stride * min(spec.tile for spec in manifest.entropy_variants if graph.id in spec.graphs)


def input_side(manifest: Manifest, graph: GraphSpec, pixels: int) -> int:
    """Input rows (or columns) of a graph for a picture of so many pixels that side, padded to the grid of z."""
    return -(-pixels // manifest.z_stride) * manifest.z_stride // _rows_of(manifest, graph)


def largest_side(manifest: Manifest, graph: GraphSpec, pixels: int) -> int:
    """Input rows of the largest tile, whose own side is `pixels`, with the margin of its graph on both ends.

    A graph that does not state its reach runs on whole pictures only.
    """
    if graph.reach is None:
        return input_side(manifest, graph, pixels)
    grid = manifest.z_stride // _rows_of(manifest, graph)
    return input_side(manifest, graph, pixels) + 2 * (-(-graph.reach // grid) * grid)


def typed_graph(bundle: Bundle, spec: GraphSpec, precision: str) -> ModelProto:
    """The graph as it is built; precision, "fp32" or "fp16", is that of the pixel path."""
    model = typed.load_folded(bundle.graph_path(spec.id), bundle.weights_folder)
    if spec.path == "entropy":
        if spec.transform == "stage":
            model = typed.with_packed_outputs(model, bundle.index_lut)
        return model
    return typed.with_half(model) if precision == "fp16" else model


class _Set:
    """One set of engines in the making, in a folder that will be it."""

    def __init__(self, bundle: Bundle, builder: EngineBuilder, precision: str, sizes: Sizes, folder: Path) -> None:
        self._bundle, self._builder, self._precision, self._folder = bundle, builder, precision, folder
        self._index = EngineSet(builder.library.name, builder.version, builder.target, precision, sizes, {})

    def add(self, spec: GraphSpec) -> Built:
        """Build the engine of a graph, or take it from the cache."""
        model = onnx.load(str(self._bundle.graph_path(spec.id)), load_external_data=False)
        profile = profile_of(self._bundle, spec, model, self._index.sizes)
        precision = self._precision if spec.path == "pixel" else "fp32"
        key = cache_key(self._bundle, spec, self._builder.library, self._index.target, precision, profile)
        cached = _cache() / f"{key}.engine"
        hit, started = cached.is_file(), time.perf_counter()
        if not hit:
            typed_model = typed_graph(self._bundle, spec, self._precision)
            store(cached, self._builder.build(typed_model, f"{spec.id} ({spec.transform})", profile))
        seconds = 0.0 if hit else time.perf_counter() - started
        path = engine_path(self._folder, spec.id)
        _link_or_copy(cached, path)
        data = path.read_bytes()
        self._index.engines[spec.id] = EngineFile(
            key,
            len(data),
            hashlib.sha256(data).hexdigest(),
            round(seconds, 3),
            precision,
            dict(profile.minimum),
            dict(profile.optimum),
            dict(profile.maximum),
        )
        target = self._index.target
        return Built(target, spec.id, spec.transform, spec.width, precision, len(data), seconds, hit)

    def write_index(self) -> None:
        (self._folder / INDEX_FILE).write_text(self._index.to_json(), encoding="utf-8")


def _cache() -> Path:
    return cache_folder() / "engines"


def cache_key(bundle: Bundle, spec: GraphSpec, library: Library, target: str, precision: str, profile: Profile) -> str:
    """Hash of all that an engine depends on. A graph's id is a hash over its weights, too."""
    table = hashlib.sha256(bundle.index_lut.tobytes()).hexdigest() if spec.transform == "stage" else ""
    parts = [
        typed.REVISION,
        spec.id,
        table,
        library.name,
        library.version,
        target,
        precision,
        asdict(profile),
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)
