"""Exports one net: its integer entropy paths, the graphs of its levels, and their checks."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from basic_export import golden, photos, verify
from basic_export.bundle import BundleWriter
from basic_export.errors import ExportError
from basic_export.options import Options
from basic_export.pixel import TRANSFORMS, PixelExport, export_pixel
from basic_export.stages import CompiledEntropy, compile_entropy
from basic_runtime.bundle import Bundle
from basic_runtime.engines import create_backend
from basic_runtime.engines.native import native_engines
from basic_runtime.tables import TableArrays
from basic_train.model import units
from basic_train.model.coded import RateCost, rate_cost, to_tensor
from basic_train.model.context import GroupedContext
from basic_train.model.integer import IntegerEntropy, OverflowBoundError
from basic_train.model.quantise import quantise
from basic_train.model.supernet import Y_STRIDE, Z_STRIDE, Supernet, Widths

#: Rate cost of the integer path (percent) from which something is wrong.
RATE_COST_FAILURE = 3.0

#: Change of a latent by pruning, in quantisation steps, from which something is wrong.
PRUNED_STEPS = 0.1

#: The rate cost is measured on so many latents of mixed qualities, of each at most so many hyper-latent positions a
#: side: every stage of each runs the whole context model in PyTorch, twice.
RATE_LATENTS, RATE_SIDE = 8, 5

_PENDING_HASH = "0" * 64

#: y and z of a photo.
Latents = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Pruned:
    """How many dead hidden units were pruned, and what that changes on the check photo at most:
    latents in quantisation steps, samples of the picture of 255."""

    units: int
    latents: float
    samples: float


def require_grouped(net: Supernet) -> None:
    """Raises ExportError for a net of which no bundle can be made."""
    if not isinstance(net.context, GroupedContext):
        raise ExportError(
            f"preset {net.config.preset!r} has no grouped context model, which a bundle's entropy path is built "
            "from: export a model that has one, like lite or paper"
        )


class NetExport:
    """Steps that build on each other, in their order: `prune`, `integer_paths`, `add_variants`, `add_pixels`; then
    the writer has all graphs of the levels, and `check` compares them with PyTorch.

    first_variant: number of the first entropy variant of this net in the bundle. transforms: which of the pixel path
    are exported. step: told what begins.
    """

    def __init__(
        self,
        net: Supernet,
        levels: list[Widths],
        writer: BundleWriter,
        options: Options,
        step: Callable[[str], None],
        first_variant: int = 0,
        transforms: Sequence[str] = TRANSFORMS,
    ) -> None:
        self.net, self.levels, self.writer, self.options, self.step = net, levels, writer, options, step
        self.first_variant = first_variant
        self.hyper_indexes = sorted({level.h_s for level in levels})
        self.pixel_indexes = {name: sorted({getattr(level, name) for level in levels}) for name in transforms}
        self.photo = photos.check_photo(options.check_photo)
        self.pruned = Pruned(0, 0.0, 0.0)
        self.integers: list[IntegerEntropy] = []
        self.compiled: list[CompiledEntropy] = []
        self.variants: list[dict[str, Any]] = []
        self.pixels: dict[tuple[str, int], tuple[str, PixelExport]] = {}
        self.rate_costs: list[RateCost] = []

    @torch.no_grad()
    def prune(self) -> None:
        """Prune dead hidden units: the same function for less. Compares both on a photo that need not be one of those
        that showed which are dead."""
        self.step("dead hidden units")
        lean, x = copy.deepcopy(self.net), to_tensor(self.photo)
        count = units.prune(lean, units.live_units(lean, photos.varied_pictures(self.options.photos), self.levels))
        whole, self.net = self.net, lean
        latents = samples = 0.0
        for level in self.levels if count else ():
            for quality in (torch.zeros(1), torch.ones(1)):
                y, lean_y = (net.analyse(x, quality, level.g_a) for net in (whole, lean))
                pictures = [net.reconstruct(torch.round(y), quality, level.g_s) for net in (whole, lean)]
                latents = max(latents, float((y - lean_y).abs().max()))
                samples = max(samples, 255 * float((pictures[0] - pictures[1]).abs().max()))
        self.pruned = Pruned(count, latents, samples)

    def integer_paths(self) -> list[list[Latents]]:
        """The integer entropy path of each width; returns the latents that each was calibrated on."""
        pictures = photos.calibration_photos(self.options.photos)
        return [self._integer_path(index, pictures) for index in self.hyper_indexes]

    def _integer_path(self, index: int, pictures: list[np.ndarray]) -> list[Latents]:
        width = self.net.config.hyper_widths[index]
        self.step(f"entropy path of width {width}: integers")
        served = [level for level in self.levels if level.h_s == index]
        latents = photos.calibration_latents(self.net, pictures, served)
        try:
            self.integers.append(quantise(self.net, index, latents))
        except OverflowBoundError as error:
            raise ExportError(f"entropy path of width {width}: {error}") from error
        return latents

    def add_variants(self, tables: TableArrays, latents: list[list[Latents]]) -> None:
        """Write the graphs of all entropy paths, and measure with the tables and latents what the integers cost."""
        for index, integer, found in zip(self.hyper_indexes, self.integers, latents, strict=True):
            self.step(f"entropy path of width {integer.width}: rate cost")
            measured = cropped(found[-RATE_LATENTS:])
            self.rate_costs.append(rate_cost(self.net, index, integer, tables, measured))
            self.step(f"entropy path of width {integer.width}: graphs")
            self.compiled.append(compile_entropy(integer))
            self.variants.append(self._add_variant(self.compiled[-1]))

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

    def add_pixels(self) -> None:
        """Write the graphs of g_a, h_a and g_s."""
        for transform, indexes in self.pixel_indexes.items():
            for index in indexes:
                self.step(f"{transform}, width {index + 1} of {len(self.net.config.widths)}")
                graph = export_pixel(self.net, transform, index)
                name = self.writer.add_graph(graph.model, transform, graph.width, graph.macs_per_pixel)
                self.pixels[transform, index] = name, graph

    def level_entry(self, level: Widths) -> dict[str, Any]:
        """The manifest's entry of a level, once all graphs are written."""
        variant = self.hyper_indexes.index(level.h_s)
        entropy = self.compiled[variant].macs_per_pixel
        pixel = {name: self.pixels[name, getattr(level, name)] for name in TRANSFORMS}
        macs = {name: graph.macs_per_pixel for name, (_, graph) in pixel.items()}
        return {
            "g_a": pixel["g_a"][0],
            "h_a": pixel["h_a"][0],
            "entropy": self.first_variant + variant,
            "g_s": pixel["g_s"][0],
            "encode_macs_per_pixel": round(macs["g_a"] + macs["h_a"] + entropy, 3),
            "decode_macs_per_pixel": round(entropy + macs["g_s"], 3),
        }

    @cached_property
    def _extreme(self) -> tuple[np.ndarray, np.ndarray]:
        """z and y of the golden vectors, of the pruned net."""
        return golden.golden_latents(self.net, self.photo)

    @cached_property
    def _inputs(self) -> verify.PixelInputs:
        """What graphs of the pixel path are checked on, by the same net."""
        return verify.pixel_inputs(self.net, self.photo)

    def golden_tensors(self) -> dict[str, np.ndarray]:
        """What golden.safetensors holds of this net's entropy variants."""
        z, y = self._extreme
        tensors: dict[str, np.ndarray] = {}
        for number, integer in enumerate(self.integers, self.first_variant):
            tensors |= golden.golden_tensors(number, z, y, integer.grouping)
        return tensors

    def hash_golden(self, bundle: Bundle) -> None:
        """Fill in the variants' hashes of what graphs compute from the golden vectors, by the bundle so far."""
        z, y = self._extreme
        load = verify.Loader(bundle, create_backend("onnxruntime"))
        for number, (variant, integer) in enumerate(zip(self.variants, self.integers, strict=True)):
            place = self.first_variant + number
            found = golden.golden_sha256(bundle, place, load, z, y, integer.grouping)
            variant["golden"]["graph outputs sha256"] = found

    def check(self) -> list[verify.Check]:
        """Compare all graphs of the bundle with PyTorch, unless the options say not to. Raises ExportError for one that
        differs."""
        if not self.options.verify:
            return []
        bundle = Bundle(self.writer.folder)
        load = verify.Loader(bundle, create_backend("onnxruntime"))
        inputs, checks = self._inputs, []
        for graph_id, graph in self.pixels.values():
            self.step(f"check {graph.transform}, width {graph.width}")
            checks.append(verify.check_pixel(graph, graph_id, load, inputs))
        real = verify.photo_latents(inputs, self.net, bundle.manifest.mean_bits)
        for number, integer in enumerate(self.integers, self.first_variant):
            spec = bundle.entropy(number)
            self.step(f"check entropy path of width {spec.width}")
            native = native_engines(bundle, number, None)  # what the runtime takes instead of ONNX Runtime, if it can
            for engines in (load, native.__getitem__) if native else (load,):
                for z, y in (real, self._extreme):
                    checks += verify.check_entropy(integer, spec, engines, z, y)
        verify.require(checks)
        return checks

    def half_effects(self) -> list[verify.HalfEffect]:
        """What weights in float16 change."""
        return [verify.half_effect(graph, self._inputs) for _, graph in self.pixels.values()]

    def notices(self) -> list[str]:
        """What a user should know of the entropy paths and of pruning."""
        found = [
            f"width {cost.width}: the integer entropy path costs {cost.percent:.1f} % of rate, more than "
            f"{RATE_COST_FAILURE:g} %: calibrate on other photos (--data), or train with quantisation in place"
            for cost in self.rate_costs
            if cost.percent > RATE_COST_FAILURE
        ]
        if self.pruned.latents > PRUNED_STEPS:
            found.append(
                f"the hidden units that were pruned change latents of the check photo by {self.pruned.latents:.2f} "
                "steps: name a folder of more varied photos with --data"
            )
        return found


def cropped(latents: list[Latents]) -> list[Latents]:
    """The corners of latents, as the rate cost takes them."""
    side, ratio = RATE_SIDE, Z_STRIDE // Y_STRIDE
    return [(y[:, :, : side * ratio, : side * ratio], z[:, :, :side, :side]) for y, z in latents]
