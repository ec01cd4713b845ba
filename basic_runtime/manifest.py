"""manifest.json of a bundle: its fields as dataclasses, and a parser that names the field it refuses."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from basic_runtime.container import LEVELS, QUALITY_STEPS
from basic_runtime.definitions import GOLDEN, TABLES, WEIGHTS
from basic_runtime.errors import BundleError
from basic_runtime.post_filter import shape_of

FORMAT = "basic-bundle"
FORMAT_VERSION = 1
TRANSFORMS = ("g_a", "h_a", "h_s", "stage", "g_s")
FILTER_WEIGHTS = math.prod(shape_of(gray=False))
REQUIRED_FILES = (TABLES, WEIGHTS, GOLDEN)


@dataclass(frozen=True)
class PartSpec:
    """A part of a graph for the tiles of large pictures: its `reach` in rows of its coarsest input, and the bytes per
    pixel of the picture that its largest tensor takes."""

    id: str
    reach: int
    bytes_per_pixel: float


@dataclass(frozen=True)
class PartsSpec:
    """The parts of a graph in their order. `strides`: rows of the picture per row of each tensor between them."""

    strides: dict[str, int]
    graphs: tuple[PartSpec, ...]


@dataclass(frozen=True)
class FormatsSpec:
    """The formats of the tensors of a graph of the pixel path in fixed point (`engines.fixed_point`): by key, the bits
    at each of some quality steps, which rise; and the keys of those that no convolution reads."""

    steps: tuple[int, ...]
    bits: dict[str, tuple[int, ...]]
    wide: frozenset[str]


@dataclass(frozen=True)
class FilterSpec:
    """The filter of the pixels of a g_s: weights at some quality steps, which rise, as bytes of
    `post_filter.Weights`."""

    steps: tuple[int, ...]
    weights: tuple[bytes, ...]


@dataclass(frozen=True)
class GraphSpec:
    """One ONNX graph; `macs_per_pixel` counts multiply-accumulates per pixel of the picture, `reach` the input
    rows and columns beside its own that an output depends on (None: not stated, as in older bundles). `parts` do
    together what the graph does (None: it is not cut). `formats` are there for a graph that can be computed in fixed
    point, `gradient_formats` for a g_s whose way back can, with which an encoder refines, and `post_filter` for one
    whose pixels are the better for it."""

    id: str
    transform: str
    width: int
    path: str
    macs_per_pixel: float
    reach: int | None
    parts: PartsSpec | None
    formats: FormatsSpec | None
    gradient_formats: FormatsSpec | None
    post_filter: FilterSpec | None


@dataclass(frozen=True)
class StageSpec:
    """One stage: a graph and the slots of y that it predicts, each (channel group, row, column phase)."""

    graph: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    slots: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class EntropySpec:
    """One entropy variant: an h_s and the stages of one grouping over `tile` x `tile` phases."""

    width: int
    grouping: str
    tile: int
    channel_groups: int
    h_s: str
    stages: tuple[StageSpec, ...]
    golden_sha256: str

    @property
    def graphs(self) -> tuple[str, ...]:
        """Ids of h_s and the stages, in the order in which they run."""
        return self.h_s, *(stage.graph for stage in self.stages)


@dataclass(frozen=True)
class LevelSpec:
    """One complexity level: graph ids of its transforms, index of its entropy variant, costs per pixel."""

    g_a: str
    h_a: str
    entropy_variant: int
    g_s: str
    encode_macs_per_pixel: float
    decode_macs_per_pixel: float


@dataclass(frozen=True)
class EarlierModel:
    """A model that this one was before it got filters or another level, and whose files it decodes as that did:
    `synthesis` are the ids of its g_s by level, `filtered` says whether these had their filters."""

    synthesis: tuple[str, ...]
    filtered: bool


@dataclass(frozen=True)
class Manifest:
    """All fields of manifest.json that the runtime reads. `lambdas`: those of the lowest and the highest quality step,
    rising geometrically between; the model was trained for the least bits per pixel + lambda 255^2 MSE (None: not
    stated, in older bundles). `earlier`: other models whose files it decodes, by their ids."""

    model_name: str
    model_id: str
    earlier: dict[str, EarlierModel]
    y_channels: int
    z_channels: int
    y_stride: int
    z_stride: int
    mean_bits: int
    z_amax: int
    quality_steps: int
    files: dict[str, str]
    graphs: dict[str, GraphSpec]
    entropy_variants: tuple[EntropySpec, ...]
    levels: tuple[LevelSpec, ...]
    lambdas: tuple[float, float] | None


_Parsed = TypeVar("_Parsed")


class _Fields:
    """A JSON object that is taken apart field by field; errors name the file and the path of the field."""

    def __init__(self, file: Path, where: str, value: Any) -> None:
        self.file = file
        self.where = where
        if not isinstance(value, dict):
            raise BundleError(f"{file}: {where or 'the whole'} must be an object")
        self.value: dict[str, Any] = value

    def path(self, name: str) -> str:
        return f"{self.where}.{name}" if self.where else name

    def fail(self, name: str, reason: str) -> BundleError:
        return BundleError(f"{self.file}: field {self.path(name)} {reason}")

    def raw(self, name: str) -> Any:
        if name not in self.value:
            raise self.fail(name, "is missing")
        return self.value[name]

    def text(self, name: str, pattern: str = ".+") -> str:
        value = self.raw(name)
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise self.fail(name, f"must be text like {pattern}, not {value!r}")
        return value

    def integer(self, name: str, low: int, high: int) -> int:
        value = self.raw(name)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.fail(name, f"must be an integer from {low} to {high}, not {value!r}")
        return value

    def number(self, name: str) -> float:
        value = self.raw(name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1e12:
            raise self.fail(name, f"must be a number from 0, not {value!r}")
        return float(value)

    def boolean(self, name: str) -> bool:
        value = self.raw(name)
        if not isinstance(value, bool):
            raise self.fail(name, f"must be true or false, not {value!r}")
        return value

    def child(self, name: str) -> _Fields:
        return _Fields(self.file, self.path(name), self.raw(name))

    def optional(self, name: str, parse: Callable[[_Fields], _Parsed]) -> _Parsed | None:
        """What is made of an object that need not be there."""
        return parse(self.child(name)) if name in self.value else None

    def array(self, name: str, *, empty: bool = False) -> list[Any]:
        value = self.raw(name)
        if not isinstance(value, list) or (not value and not empty):
            raise self.fail(name, "must be a list" if empty else "must be a list of at least one item")
        return value

    def integers(self, name: str, low: int, high: int) -> tuple[int, ...]:
        items = self.array(name)
        if not all(isinstance(item, int) and not isinstance(item, bool) and low <= item <= high for item in items):
            raise self.fail(name, f"must be a list of integers from {low} to {high}")
        return tuple(items)

    def children(self, name: str) -> list[_Fields]:
        return [_Fields(self.file, f"{self.path(name)}[{i}]", item) for i, item in enumerate(self.array(name))]

    def names(self, name: str, *, empty: bool = False) -> tuple[str, ...]:
        items = self.array(name, empty=empty)
        if not all(isinstance(item, str) and item for item in items):
            raise self.fail(name, "must be a list of names")
        return tuple(items)


def parse_manifest(file: Path, value: Any) -> Manifest:
    """Check the parsed JSON `value` of the manifest `file` and return its fields.

    Raises BundleError, naming the file and the field.
    """
    top = _Fields(file, "", value)
    if top.raw("format") != FORMAT:
        raise top.fail("format", f"must be {FORMAT!r}")
    version = top.integer("format_version", 1, 1 << 16)
    if version != FORMAT_VERSION:
        raise top.fail(
            "format_version", f"is {version}, and this basic-codec reads {FORMAT_VERSION}: update basic-codec"
        )
    model, latent = top.child("model"), top.child("latent")
    graphs = _parse_graphs(top.child("graphs"))
    graph_of = _graph_reader(graphs)
    y_channels = latent.integer("y_channels", 1, 4096)
    if len(top.array("levels")) > LEVELS:
        raise top.fail("levels", f"has more than {LEVELS} levels")
    entropy_variants = tuple(_parse_entropy(item, y_channels, graph_of) for item in top.children("entropy"))
    levels = tuple(_parse_level(item, len(entropy_variants), graph_of) for item in top.children("levels"))
    return Manifest(
        model_name=model.text("name", "[A-Za-z0-9._-]{1,15}"),
        model_id=model.text("id", "[0-9a-f]{8}"),
        earlier=_parse_earlier(model.child("earlier"), len(levels), graphs) if "earlier" in model.value else {},
        y_channels=y_channels,
        z_channels=latent.integer("z_channels", 1, 192),
        y_stride=latent.integer("y_stride", 1, 64),
        z_stride=_parse_z_stride(latent),
        mean_bits=top.integer("mean_bits", 0, 16),
        z_amax=top.integer("z_amax", 1, 32767),
        quality_steps=top.integer("quality_steps", QUALITY_STEPS, QUALITY_STEPS),
        files=_parse_files(top.child("files")),
        graphs=graphs,
        entropy_variants=entropy_variants,
        levels=levels,
        lambdas=top.optional("lambda", _parse_lambdas),
    )


_GraphReader = Callable[[_Fields, str, str], str]


def _graph_reader(graphs: dict[str, GraphSpec]) -> _GraphReader:
    def read(fields: _Fields, name: str, transform: str) -> str:
        graph_id = fields.text(name)
        if graph_id not in graphs:
            raise fields.fail(name, f"names the graph {graph_id!r}, which is not in the field graphs")
        if graphs[graph_id].transform != transform:
            raise fields.fail(name, f"must name a graph of {transform}, not of {graphs[graph_id].transform}")
        return graph_id

    return read


def _parse_earlier(fields: _Fields, levels: int, graphs: dict[str, GraphSpec]) -> dict[str, EarlierModel]:
    found: dict[str, EarlierModel] = {}
    for model_id in fields.value:
        if not re.fullmatch("[0-9a-f]{8}", model_id):
            raise fields.fail(model_id, "must be named by 8 hex digits")
        item = fields.child(model_id)
        synthesis = item.names("g_s")
        if len(synthesis) != levels or any(name not in graphs or graphs[name].transform != "g_s" for name in synthesis):
            raise item.fail("g_s", f"must name a graph of g_s for each of the {levels} levels")
        found[model_id] = EarlierModel(synthesis, item.boolean("filtered"))
    return found


def _parse_z_stride(latent: _Fields) -> int:
    stride = latent.integer("z_stride", 1, 256)
    if stride % latent.integer("y_stride", 1, 64):
        raise latent.fail("z_stride", "must be a multiple of y_stride")
    return stride


def _parse_files(fields: _Fields) -> dict[str, str]:
    for name in REQUIRED_FILES:
        fields.text(name, "[0-9a-f]{64}")
    for name in fields.value:
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", name) or name.startswith("."):
            raise fields.fail(name, "must be a plain file name")
    return {name: fields.text(name, "[0-9a-f]{64}") for name in fields.value}


def _parse_graphs(fields: _Fields) -> dict[str, GraphSpec]:
    graphs: dict[str, GraphSpec] = {}
    for graph_id in fields.value:
        if not re.fullmatch("[0-9a-f]{16}", graph_id):
            raise fields.fail(graph_id, "must be named by 16 hex digits")
        item = fields.child(graph_id)
        graphs[graph_id] = GraphSpec(
            id=graph_id,
            transform=item.text("transform", "|".join(TRANSFORMS)),
            width=item.integer("width", 0, 1 << 16),
            path=item.text("path", "pixel|entropy"),
            macs_per_pixel=item.number("macs_per_pixel"),
            reach=item.integer("reach", 0, 1 << 16) if "reach" in item.value else None,
            parts=item.optional("parts", _parse_parts),
            formats=item.optional("formats", _parse_formats),
            gradient_formats=item.optional("gradient_formats", _parse_formats),
            post_filter=item.optional("filter", _parse_filter),
        )
    return graphs


def _parse_lambdas(fields: _Fields) -> tuple[float, float]:
    lowest, highest = fields.number("lowest"), fields.number("highest")
    if not 0 < lowest <= highest:
        raise fields.fail("highest", f"must be no less than lowest, which is {lowest:g}, and both more than 0")
    return lowest, highest


def _parse_parts(fields: _Fields) -> PartsSpec:
    strides = fields.child("strides")
    graphs = [
        PartSpec(item.text("id", "[0-9a-f]{16}"), item.integer("reach", 0, 1 << 16), item.number("bytes_per_pixel"))
        for item in fields.children("graphs")
    ]
    return PartsSpec({name: strides.integer(name, 1, 256) for name in strides.value}, tuple(graphs))


def _parse_steps(fields: _Fields) -> tuple[int, ...]:
    steps = fields.integers("steps", 0, QUALITY_STEPS - 1)
    if sorted(set(steps)) != list(steps):
        raise fields.fail("steps", "must rise")
    return steps


def _parse_filter(fields: _Fields) -> FilterSpec:
    steps, weights = _parse_steps(fields), fields.names("weights")
    if len(weights) != len(steps):
        raise fields.fail("weights", f"must have an entry for each of {len(steps)} steps")
    if not all(re.fullmatch(f"[0-9a-f]{{{2 * FILTER_WEIGHTS}}}", entry) for entry in weights):
        raise fields.fail("weights", f"must be of {FILTER_WEIGHTS} bytes each, as hex digits")
    return FilterSpec(steps, tuple(bytes.fromhex(entry) for entry in weights))


def _parse_formats(fields: _Fields) -> FormatsSpec:
    steps = _parse_steps(fields)
    bits = fields.child("bits")
    found = {key: bits.integers(key, -16, 31) for key in bits.value}
    for key, values in found.items():
        if len(values) != len(steps):
            raise bits.fail(key, f"must have a number for each of {len(steps)} steps")
    return FormatsSpec(steps, found, frozenset(fields.names("wide", empty=True)))


def _parse_entropy(fields: _Fields, y_channels: int, graph_of: _GraphReader) -> EntropySpec:
    grouping = fields.child("grouping")
    tile = grouping.integer("tile", 1, 4)
    groups = grouping.integer("channel_groups", 1, y_channels)
    if tile not in (1, 2, 4):
        raise grouping.fail("tile", f"must be 1, 2 or 4, not {tile}")
    if y_channels % groups:
        raise grouping.fail("channel_groups", f"must divide the {y_channels} channels of y")
    stages = tuple(_parse_stage(item, tile, groups, graph_of) for item in fields.children("stages"))
    slots = [slot for stage in stages for slot in stage.slots]
    if len(set(slots)) != len(slots) or len(slots) != groups * tile * tile:
        raise fields.fail("stages", "must cover every slot of y exactly once")
    return EntropySpec(
        width=fields.integer("width", 0, 1 << 16),
        grouping=grouping.text("name"),
        tile=tile,
        channel_groups=groups,
        h_s=graph_of(fields, "h_s", "h_s"),
        stages=stages,
        golden_sha256=fields.child("golden").text("graph outputs sha256", "[0-9a-f]{64}"),
    )


def _parse_stage(fields: _Fields, tile: int, groups: int, graph_of: _GraphReader) -> StageSpec:
    slots = []
    for slot in fields.array("slots"):
        bounds = (groups, tile, tile)
        if (
            not isinstance(slot, list)
            or len(slot) != 3
            or not all(isinstance(v, int) and 0 <= v < bound for v, bound in zip(slot, bounds, strict=True))
        ):
            raise fields.fail("slots", f"must hold [group, row, column] below {list(bounds)}, not {slot!r}")
        slots.append((slot[0], slot[1], slot[2]))
    outputs = fields.names("outputs")
    if outputs[:2] != ("mean", "scale"):
        raise fields.fail("outputs", "must begin with mean and scale")
    return StageSpec(
        graph=graph_of(fields, "graph", "stage"),
        inputs=fields.names("inputs", empty=True),
        outputs=outputs,
        slots=tuple(slots),
    )


def _parse_level(fields: _Fields, variants: int, graph_of: _GraphReader) -> LevelSpec:
    return LevelSpec(
        g_a=graph_of(fields, "g_a", "g_a"),
        h_a=graph_of(fields, "h_a", "h_a"),
        entropy_variant=fields.integer("entropy", 0, variants - 1),
        g_s=graph_of(fields, "g_s", "g_s"),
        encode_macs_per_pixel=fields.number("encode_macs_per_pixel"),
        decode_macs_per_pixel=fields.number("decode_macs_per_pixel"),
    )
