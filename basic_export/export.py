"""From a supernet to a bundle: levels, integer entropy paths, graphs, tables, golden vectors, checks."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from basic_export import golden, photos, verify
from basic_export.bundle import GRAPHS, BundleWriter
from basic_export.errors import ExportError
from basic_export.fixed_point import formats_of
from basic_export.gradient import error_gradient
from basic_export.own_levels import Placed, place_levels
from basic_export.pixel import TRANSFORMS, PixelGraph, export_pixel
from basic_export.post_filters import filters_of
from basic_export.stages import CompiledEntropy, compile_entropy
from basic_runtime.bundle import Bundle
from basic_runtime.engines import create_backend
from basic_runtime.engines.native import native_engines
from basic_runtime.tables import TableArrays
from basic_train.model import units
from basic_train.model.coded import QUALITY_STEPS, RateCost, coder_tables, rate_cost, symbol_counts, to_tensor
from basic_train.model.context import GroupedContext
from basic_train.model.integer import IntegerEntropy, OverflowBoundError
from basic_train.model.quantise import quantise
from basic_train.model.supernet import Y_STRIDE, Z_STRIDE, Supernet, Widths

#: Rate cost of the integer path (percent) from which something is wrong.
RATE_COST_FAILURE = 3.0

#: Change of a latent, in quantisation steps, by units that were left out from which something is wrong.
LEFT_OUT_STEPS = 0.1

#: The rate cost is measured on so many latents of mixed qualities, of each at most so many hyper-latent positions a
#: side: every stage of each runs the whole context model in PyTorch, twice.
RATE_LATENTS, RATE_SIDE = 8, 5

#: The coder's tables are fitted to so many latents of each entropy path, of the same size: with 48 photos to 12 of the
#: finest quality and 12 of each of four others.
TABLE_LATENTS = 60

_PENDING_HASH = "0" * 64


@dataclass(frozen=True)
class Options:
    """What an export may be told. name: of the model, written in every file, at most 15 characters; photos: a
    folder for calibration, check_photo: a picture for the comparison with PyTorch (both default to
    scikit-image's)."""

    name: str
    levels: int = 8
    photos: Path | None = None
    check_photo: Path | None = None
    verify: bool = True
    overwrite: bool = False


@dataclass
class Level:
    """A level of the exported bundle: width indexes in the supernet or, with `own`, in a net of its own, channel
    counts, and costs per pixel."""

    own: bool
    widths: Widths
    channels: Widths
    encode_macs_per_pixel: float
    decode_macs_per_pixel: float


@dataclass(frozen=True)
class LeftOut:
    """How many hidden units were left out, as no picture stirs them, and what that changes on the check photo at most:
    latents in quantisation steps, samples of the picture of 255."""

    units: int
    latents: float
    samples: float


@dataclass
class Report:
    """What was exported, and how well. Sizes in bytes; weight_bytes: of all graphs without sharing."""

    path: Path
    name: str
    model_id: str
    levels: list[Level]
    graphs: dict[str, dict[str, Any]]
    sizes: dict[str, int]
    weight_bytes: int
    left_out: LeftOut
    rate_costs: list[RateCost]
    half_effects: list[verify.HalfEffect]
    checks: list[verify.Check] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    seconds: float = 0.0


Progress = Callable[[str, int, int], None]
"""Called before each step with what it does, its number from 0, and how many there are."""


def no_progress(step: str, number: int, total: int) -> None:
    """Says nothing."""


def export_bundle(
    net: Supernet,
    target: Path,
    options: Options,
    progress: Progress = no_progress,
    own: Mapping[int, Supernet] = MappingProxyType({}),
) -> Report:
    """Export a supernet as a bundle in the new folder `target`. own: nets that take the place of some of its levels,
    by the level's number (`own_levels`). All nets are put into eval mode.

    Raises ExportError (a graph that differs from PyTorch, levels that do not fit, an entropy path that cannot
    be made exact), FileError (the target), ImageError (photos).
    """
    if not isinstance(net.context, GroupedContext):
        raise ExportError(
            f"preset {net.config.preset!r} has no grouped context model, which a bundle's entropy path is built "
            "from: export a model that has one, like lite or paper"
        )
    with BundleWriter(target, options.overwrite) as writer:
        return _Export(net, own, writer, options, progress).run()


_Key = TypeVar("_Key")


def _distinct(keys: Iterable[_Key]) -> list[_Key]:
    """Each once, in their order."""
    return list(dict.fromkeys(keys))


class _Export:
    """One run of the export; the parts that its steps hand on to each other."""

    def __init__(
        self,
        net: Supernet,
        own: Mapping[int, Supernet],
        writer: BundleWriter,
        options: Options,
        progress: Progress,
    ) -> None:
        self.writer, self.options = writer, options
        nets, self.levels = place_levels(net, options.levels, own)
        self.nets = [one.float().eval() for one in nets]
        # What levels share is exported once: by the number of the net and the width index.
        self.hyper_keys = _distinct((level.net, level.widths.h_s) for level in self.levels)
        self.pixel_keys = {
            name: _distinct((level.net, getattr(level.widths, name)) for level in self.levels) for name in TRANSFORMS
        }
        self.integers: list[IntegerEntropy] = []
        self.compiled: list[CompiledEntropy] = []
        self.variants: list[dict[str, Any]] = []
        self.pixels: dict[tuple[str, int, int], tuple[str, PixelGraph]] = {}
        self.rate_costs: list[RateCost] = []
        self.tables = coder_tables(net)
        self.photo = photos.check_photo(options.check_photo)
        self._progress, self._steps = progress, 0
        graphs = sum(len(keys) for keys in self.pixel_keys.values())
        variants = len(self.hyper_keys)
        filters = len(self.pixel_keys["g_s"])
        self._total = 3 * variants + graphs + filters + 5 + (graphs + variants if options.verify else 0)

    @property
    def net(self) -> Supernet:
        """The supernet."""
        return self.nets[0]

    def _widths(self, net: int) -> list[Widths]:
        """Those of the levels of a net."""
        return [level.widths for level in self.levels if level.net == net]

    def run(self) -> Report:
        started = time.perf_counter()
        self.left_out = self._leave_out()
        self._entropy_graphs()
        self._pixel_graphs()
        self._step("tables and golden vectors")
        manifest = self._write()
        inputs = verify.pixel_inputs(self.net, self.photo)
        checks = self._verify(inputs) if self.options.verify else []
        effects = [verify.half_effect(graph, inputs) for _, graph in self.pixels.values()]
        report = self._report(manifest, checks, effects)
        self._step("done")
        self.writer.commit()
        report.seconds = time.perf_counter() - started
        return report

    def _step(self, text: str) -> None:
        self._progress(text, self._steps, self._total)
        self._steps += 1

    @torch.no_grad()
    def _leave_out(self) -> LeftOut:
        """Take away what no picture stirs: the same function for less. Compares both on a photo that need not be one of
        those that showed it."""
        self._step("hidden units that nothing stirs")
        found = [self._lean(number) for number in range(len(self.nets))]
        return LeftOut(
            sum(one.units for one in found), max(one.latents for one in found), max(one.samples for one in found)
        )

    def _lean(self, number: int) -> LeftOut:
        levels, whole, x = self._widths(number), self.nets[number], to_tensor(self.photo)
        lean = self.nets[number] = copy.deepcopy(whole)
        count = units.leave_out(lean, units.stirred(lean, photos.varied_pictures(self.options.photos), levels))
        latents = samples = 0.0
        for level in levels if count else ():
            for quality in (torch.zeros(1), torch.ones(1)):
                y, lean_y = (net.analyse(x, quality, level.g_a) for net in (whole, lean))
                pictures = [net.reconstruct(torch.round(y), quality, level.g_s) for net in (whole, lean)]
                latents = max(latents, float((y - lean_y).abs().max()))
                samples = max(samples, 255 * float((pictures[0] - pictures[1]).abs().max()))
        return LeftOut(count, latents, samples)

    def _entropy_graphs(self) -> None:
        pictures = photos.calibration_photos(self.options.photos)
        latents = [self._integer_path(number, index, pictures) for number, index in self.hyper_keys]
        self._step("tables for the symbols of the entropy paths")
        self._fit_tables(latents)
        for (number, index), integer, found in zip(self.hyper_keys, self.integers, latents, strict=True):
            self._step(f"entropy path of width {integer.width}: rate cost")
            measured = _cropped(found[-RATE_LATENTS:])
            self.rate_costs.append(rate_cost(self.nets[number], index, integer, self.tables, measured))
            self._step(f"entropy path of width {integer.width}: graphs")
            self.compiled.append(compile_entropy(integer))
            self.variants.append(self._add_variant(self.compiled[-1]))

    def _integer_path(self, number: int, index: int, pictures: list[np.ndarray]) -> list[tuple[Tensor, Tensor]]:
        """Add the integer entropy path of a net at a width; returns the latents that it was calibrated on."""
        net = self.nets[number]
        width = net.config.hyper_widths[index]
        self._step(f"entropy path of width {width}: integers")
        served = [widths for widths in self._widths(number) if widths.h_s == index]
        latents = photos.calibration_latents(net, pictures, served)
        try:
            self.integers.append(quantise(net, index, latents))
        except OverflowBoundError as error:
            raise ExportError(f"entropy path of width {width}: {error}") from error
        return latents

    def _fit_tables(self, latents: list[list[tuple[Tensor, Tensor]]]) -> None:
        """The rows of y serve all widths, so that the symbols of all count."""
        counted = [
            symbol_counts(self.nets[number], integer, _cropped(found[-TABLE_LATENTS:]))
            for (number, _), integer, found in zip(self.hyper_keys, self.integers, latents, strict=True)
        ]
        self.tables = coder_tables(self.net, [sum(rows) for rows in zip(*counted, strict=True)])

    def _add_variant(self, compiled: CompiledEntropy) -> dict[str, Any]:
        add, width = self.writer.add_graph, compiled.width
        return {
            "width": width,
            "grouping": compiled.grouping,
            "h_s": add(compiled.h_s, "h_s", width, compiled.h_s_macs_per_pixel),
            "stages": [
                {
                    "graph": add(stage.model, "stage", width, stage.macs_per_pixel),
                    "inputs": list(stage.inputs),
                    "outputs": list(stage.outputs),
                    "slots": [list(slot) for slot in stage.slots],
                }
                for stage in compiled.stages
            ],
            "golden": {"graph outputs sha256": _PENDING_HASH},
        }

    def _pixel_graphs(self) -> None:
        for transform, keys in self.pixel_keys.items():
            for number, index in keys:
                net = self.nets[number]
                self._step(f"{transform}, {net.config.channels(transform, index)} channels")
                graph = export_pixel(net, transform, index)
                name = self.writer.add_graph(graph.model, transform, graph.width, graph.macs_per_pixel)
                self.pixels[transform, number, index] = name, graph
                gradient = error_gradient(graph.model) if transform == "g_s" else None
                if gradient is not None:
                    self.writer.add_gradient(name, gradient)

    def _write(self) -> dict[str, Any]:
        """Write all files. The golden hashes come from the bundle itself, opened as a user will open it."""
        self.writer.write_tables(coder_arrays(self.net, self.tables, self.integers[0].index_lut))
        z, y = golden.golden_latents(self.net, self.photo)
        tensors: dict[str, np.ndarray] = {}
        for number, integer in enumerate(self.integers):
            tensors |= golden.golden_tensors(number, z, y, integer.grouping)
        full = {name: self.pixels[name, *keys[-1]][1] for name, keys in self.pixel_keys.items()}
        self.writer.write_golden(tensors | golden.pixel_tensors(self.net, full, self.photo))
        fields = self._fields()
        self.writer.write_manifest(self.options.name, fields)
        bundle = Bundle(self.writer.folder)
        load = verify.Loader(bundle, create_backend("onnxruntime"))
        for number, (variant, integer) in enumerate(zip(self.variants, self.integers, strict=True)):
            found = golden.golden_sha256(bundle, number, load, z, y, integer.grouping)
            variant["golden"]["graph outputs sha256"] = found
        self._step("formats of fixed point")
        for name, formats in formats_of(bundle, photos.fixed_point_photos(self.options.photos)).items():
            self.writer.graphs[name]["formats"] = formats
        self.writer.write_manifest(self.options.name, fields)
        pictures = photos.filter_photos(self.options.photos)
        for name, weights in filters_of(Bundle(self.writer.folder), pictures, self._step).items():
            self.writer.graphs[name]["filter"] = weights
        return self.writer.write_manifest(self.options.name, fields)

    def _fields(self) -> dict[str, Any]:
        config = self.net.config
        return {
            "latent": {
                "y_channels": config.y_channels,
                "z_channels": config.z_channels,
                "y_stride": Y_STRIDE,
                "z_stride": Z_STRIDE,
            },
            "mean_bits": self.integers[0].mean_bits,
            "z_amax": self.integers[0].z_amax,
            "quality_steps": QUALITY_STEPS,
            "lambda": {"lowest": config.lambda_min, "highest": config.lambda_max},
            "entropy": self.variants,
            "levels": [self._level_entry(level) for level in self.levels],
        }

    def _level_entry(self, level: Placed) -> dict[str, Any]:
        variant = self.hyper_keys.index((level.net, level.widths.h_s))
        compiled = self.compiled[variant]
        entropy = compiled.h_s_macs_per_pixel + sum(stage.macs_per_pixel for stage in compiled.stages)
        pixel = {name: self.pixels[name, level.net, getattr(level.widths, name)] for name in TRANSFORMS}
        macs = {name: graph.macs_per_pixel for name, (_, graph) in pixel.items()}
        return {
            "g_a": pixel["g_a"][0],
            "h_a": pixel["h_a"][0],
            "entropy": variant,
            "g_s": pixel["g_s"][0],
            "encode_macs_per_pixel": round(macs["g_a"] + macs["h_a"] + entropy, 3),
            "decode_macs_per_pixel": round(entropy + macs["g_s"], 3),
        }

    def _verify(self, inputs: verify.PixelInputs) -> list[verify.Check]:
        bundle = Bundle(self.writer.folder)
        load = verify.Loader(bundle, create_backend("onnxruntime"))
        checks = []
        for graph_id, graph in self.pixels.values():
            self._step(f"check {graph.transform}, width {graph.width}")
            checks.append(verify.check_pixel(graph, graph_id, load, inputs))
        real = verify.photo_latents(inputs, self.net, bundle.manifest.mean_bits)
        extreme = golden.golden_latents(self.net, self.photo)
        for number, (integer, spec) in enumerate(zip(self.integers, bundle.manifest.entropy, strict=True)):
            self._step(f"check entropy path of width {spec.width}")
            native = native_engines(bundle, number, None)  # what the runtime takes instead of ONNX Runtime, if it can
            for engines in (load, native.__getitem__) if native else (load,):
                for z, y in (real, extreme):
                    checks += verify.check_entropy(integer, spec, engines, z, y)
        verify.require(checks)
        return checks

    def _report(
        self, manifest: dict[str, Any], checks: list[verify.Check], effects: list[verify.HalfEffect]
    ) -> Report:
        writer, levels = self.writer, []
        for (number, widths), entry in zip(self.levels, manifest["levels"], strict=True):
            config = self.nets[number].config
            channels = Widths(*(config.channels(name, i) for name, i in widths._asdict().items()))
            costs = entry["encode_macs_per_pixel"], entry["decode_macs_per_pixel"]
            levels.append(Level(number > 0, widths, channels, *costs))
        sizes = {name: writer.size_of(name) for name in ("manifest.json", *manifest["files"])}
        sizes["graphs"] = sum(path.stat().st_size for path in (writer.folder / GRAPHS).iterdir())
        notices = [
            f"width {cost.width}: the integer entropy path costs {cost.percent:.1f} % of rate, more than "
            f"{RATE_COST_FAILURE:g} %: calibrate on other --photos, or train with quantisation in place"
            for cost in self.rate_costs
            if cost.percent > RATE_COST_FAILURE
        ]
        if self.left_out.latents > LEFT_OUT_STEPS:
            notices.append(
                f"the hidden units that were left out change latents of the check photo by {self.left_out.latents:.2f} "
                "steps: name more varied --photos"
            )
        if not any("filter" in entry for entry in manifest["graphs"].values()):
            notices.append(
                "no filters of decoded pixels: they take two photos or more, and must improve those that they are not "
                "fitted to; name more --photos"
            )
        return Report(
            writer.target, manifest["model"]["name"], manifest["model"]["id"], levels, manifest["graphs"],
            sizes, writer.weights.referenced_bytes, self.left_out, self.rate_costs, effects, checks, notices,
        )  # fmt: skip


def _cropped(latents: list[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    side, ratio = RATE_SIDE, Z_STRIDE // Y_STRIDE
    return [(y[:, :, : side * ratio, : side * ratio], z[:, :, :side, :side]) for y, z in latents]


@torch.no_grad()
def coder_arrays(net: Supernet, tables: TableArrays, index_lut: np.ndarray) -> dict[str, np.ndarray]:
    """Tensors of tables.safetensors: coder rows, index table, gains (quality_steps, M) of both ends."""
    return {
        "coder.freqs": tables.freqs,
        "coder.sizes": tables.sizes,
        "coder.offsets": tables.offsets,
        "coder.shifts": tables.shifts,
        "index_lut": index_lut,
        **gain_arrays(net),
    }


@torch.no_grad()
def gain_arrays(net: Supernet) -> dict[str, np.ndarray]:
    """Of those, the gains."""
    quality = torch.arange(QUALITY_STEPS) / (QUALITY_STEPS - 1)
    gains = {"gain.encode": net.gains.encode(quality), "gain.decode": net.gains.decode(quality)}
    return {name: gain.flatten(1).float().numpy() for name, gain in gains.items()}
