"""The codec: pictures to bytes and back, with a bundle's graphs on an engine."""

from __future__ import annotations

import logging
import os
import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from basic_runtime import container
from basic_runtime._coder import to_pixels
from basic_runtime.bundle import Bundle
from basic_runtime.engines import Backend, create_backend
from basic_runtime.entropy import FloatArray, GroupedEntropy, Trace, no_trace
from basic_runtime.errors import (
    BasicError,
    BundleError,
    DesyncError,
    EngineError,
    EngineMismatchError,
    FormatError,
    WrongBundleError,
)
from basic_runtime.golden import check_golden, ensure_golden
from basic_runtime.imageio import Picture
from basic_runtime.info import FileInfo, file_info
from basic_runtime.limits import DEFAULT_LIMITS, Limits
from basic_runtime.manifest import GraphSpec
from basic_runtime.quality import quality_step
from basic_runtime.target import largest_within
from basic_runtime.tiles import TILE_PIXELS, Span, Tile, TiledEngine, Tiling

Pixels = NDArray[np.uint8]

DEFAULT_QUALITY = 50
_ROWS_AT_ONCE = 64
_log = logging.getLogger("basic_runtime")  # warnings go to standard error unless the program says otherwise

_INPUTS = {"g_a": {"x", "gain"}, "h_a": {"y"}, "h_s": {"z"}, "g_s": {"y", "gain"}}


@dataclass(frozen=True)
class VariantCheck:
    """Result of one golden vector: `error` is None if the engine reproduced it."""

    variant: int
    error: BasicError | None


class Codec:
    """Encodes and decodes pictures with one bundle on one engine.

    Graphs are loaded when a level first needs them, and kept. One codec may be used from several threads.
    """

    def __init__(
        self,
        bundle: Bundle | str | os.PathLike[str] | None = None,
        backend: Backend | str = "onnxruntime",
        threads: int | None = None,
        limits: Limits = DEFAULT_LIMITS,
        *,
        trace: Trace = no_trace,
        tile_pixels: int = TILE_PIXELS,
    ) -> None:
        """`bundle` is a folder (default: the model that ships with the package), `backend` a name out of
        `engines.BACKENDS`, `threads` how many one call may use; `trace` is told which part of the work runs.
        Pictures with a side above `tile_pixels`, a multiple of 64, are computed in tiles of at most that side.

        Raises BundleError, EngineError or MissingExtraError.
        """
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle(bundle)
        self.backend = backend if isinstance(backend, Backend) else create_backend(backend, threads)
        self.limits = limits
        self._trace = trace
        if tile_pixels <= 0 or tile_pixels % self.bundle.manifest.z_stride:
            raise ValueError(
                f"tile_pixels={tile_pixels}: must be a multiple of {self.bundle.manifest.z_stride}"
            )
        self._tile_pixels = min(tile_pixels, self._tile_limit(tile_pixels))
        self._engines: dict[str, TiledEngine] = {}
        self._entropy: dict[int, GroupedEntropy] = {}
        self._lock = threading.RLock()

    def encode(
        self,
        image: Picture | Pixels,
        quality: int = DEFAULT_QUALITY,
        level: int | None = None,
        *,
        alpha: Pixels | None = None,
        icc: bytes | None = None,
        exif: bytes | None = None,
        xmp: bytes | None = None,
    ) -> bytes:
        """Compress a picture: uint8 (H, W, 3) RGB or (H, W) gray, from 1x1, or a Picture with all it carries.

        `quality` 1..100; `level` 0 (cheapest) to 7, None for the best; `alpha` is uint8 (H, W), lossless.
        Raises ValueError for wrong arguments, LimitError for a picture that is too large.
        """
        picture = _as_picture(image, alpha, icc, exif, xmp)
        return self._encode(picture, quality_step(quality), self._checked_level(picture, level))

    def encode_within(
        self,
        image: Picture | Pixels,
        max_bytes: int,
        level: int | None = None,
        *,
        alpha: Pixels | None = None,
        icc: bytes | None = None,
        exif: bytes | None = None,
        xmp: bytes | None = None,
    ) -> bytes:
        """Compress a picture, as `encode` does, at the highest quality whose file has at most `max_bytes`.

        At most four encodes. Raises TargetError if even the lowest quality's file is larger.
        """
        picture = _as_picture(image, alpha, icc, exif, xmp)
        level = self._checked_level(picture, level)
        return largest_within(lambda step: self._encode(picture, step, level), container.QUALITY_STEPS, max_bytes)[1]

    def _checked_level(self, picture: Picture, level: int | None) -> int:
        height, width = picture.pixels.shape[:2]
        if level is None:
            level = len(self.bundle.manifest.levels) - 1
        self.bundle.level(level)
        self.limits.check_size(width, height)
        return level

    def _encode(self, picture: Picture, step: int, level: int) -> bytes:
        pixels, spec = picture.pixels, self.bundle.level(level)
        height, width = pixels.shape[:2]

        g_a, h_a = self._engine(spec.g_a), self._engine(spec.h_a)
        entropy = self._grouped_entropy(spec.entropy)
        with self._trace("g_a"):
            y = self._analyse(g_a, pixels, step)
        with self._trace("h_a"):
            z = np.asarray(h_a.run({"y": y})[h_a.outputs[0]])
        amax = self.bundle.manifest.z_amax
        z = np.clip(np.floor(z + np.float32(0.5)), -amax, amax)
        stream, checksum = entropy.encode(y, z, self._trace)

        header = container.Header(
            model_name=self.bundle.name,
            model_id=self.bundle.model_id,
            width=width,
            height=height,
            level=level,
            entropy=spec.entropy,
            quality_step=step,
            synthesis_level=level,
            yhat_crc=checksum,
            gray=pixels.ndim == 2,
        )
        content = container.Container(header, stream, picture.alpha, picture.icc, picture.exif, picture.xmp)
        with self._trace("container"):
            return container.write(content, self.limits)

    def decode(self, data: bytes, level: int | None = None) -> Pixels:
        """Decompress to uint8 (H, W, 3) RGB, or (H, W) if gray was encoded.

        `level` 0..7 picks how much g_s computes (default: what the file suggests); any level decodes any
        file. Raises FormatError for damaged bytes, WrongBundleError for a file of another model, DesyncError
        if this machine decodes other latents than the encoder had, LimitError for a picture too large.
        """
        return self.decode_picture(data, level).pixels

    def decode_picture(self, data: bytes, level: int | None = None) -> Picture:
        """Like `decode`, with alpha, ICC profile, EXIF and XMP."""
        with self._trace("container"):
            content = container.read(data, self.limits)
        header = content.header
        self._check_model(header)
        spec = self.bundle.level(header.synthesis_level if level is None else level)
        entropy = self._grouped_entropy(header.entropy)
        g_s = self._engine(spec.g_s)
        yhat, checksum = entropy.decode(content.data, *self._latent_size(header), self._trace)
        if checksum != header.yhat_crc:
            raise DesyncError(
                f"the latents decoded by engine {self.backend.name!r} do not match the file's checksum: the "
                "file is damaged, or this engine differs from the encoder's; check it with basic-run verify"
            )
        with self._trace("g_s"):
            pixels = self._synthesise(g_s, yhat, header)
        return Picture(pixels, alpha=content.alpha, icc=content.icc, exif=content.exif, xmp=content.xmp)

    def _analyse(self, g_a: TiledEngine, pixels: Pixels, step: int) -> FloatArray:
        """y of a picture; pixels become float planes tile by tile."""
        manifest = self.bundle.manifest
        height, width = (-(-side // manifest.z_stride) * manifest.z_stride for side in pixels.shape[:2])
        y = np.empty(
            (1, manifest.y_channels, height // manifest.y_stride, width // manifest.y_stride), np.float32
        )
        gain = self.bundle.encode_gain(step)

        def read(tile: Tile) -> dict[str, FloatArray]:
            with self._trace("from pixels"):
                return {"x": _to_planes(pixels, tile.rows, tile.columns), "gain": gain}

        def write(name: str, part: FloatArray, top: int, left: int) -> None:
            y[:, :, top : top + part.shape[2], left : left + part.shape[3]] = part

        g_a.run_parts(height, width, read, write)
        return y

    def _synthesise(self, g_s: TiledEngine, yhat: FloatArray, header: container.Header) -> Pixels:
        """The picture of a latent; float planes become pixels tile by tile."""
        shape = (header.height, header.width)
        pixels = np.empty(shape if header.gray else (*shape, 3), np.uint8)
        gain = self.bundle.decode_gain(header.quality_step)

        def write(name: str, part: FloatArray, top: int, left: int) -> None:
            with self._trace("to pixels"):
                place = pixels[top : top + part.shape[2], left : left + part.shape[3]]
                _to_pixels(part[0, :, : place.shape[0], : place.shape[1]], place)

        g_s.run_parts(yhat.shape[2], yhat.shape[3], lambda tile: {"y": tile.cut(yhat), "gain": gain}, write)
        return pixels

    def info(self, data: bytes) -> FileInfo:
        """What the compressed file `data` says of itself; no graph is loaded and no model compared."""
        return file_info(data, self.limits)

    def verify(self) -> list[VariantCheck]:
        """Run every golden vector of the bundle on this engine, whatever is remembered of earlier runs."""
        results = []
        for variant in range(len(self.bundle.manifest.entropy)):
            try:
                entropy = GroupedEntropy(self.bundle, variant, self._engine)
                check_golden(self.bundle, variant, self.backend, entropy)
            except BasicError as error:
                results.append(VariantCheck(variant, error))
            else:
                results.append(VariantCheck(variant, None))
        return results

    def layer_times(self, graph_id: str) -> dict[str, float]:
        """Milliseconds of each layer of a graph's engine in a repetition of its last run, if engines can tell."""
        return self._engine(graph_id).layer_times()

    def load(self, level: int) -> None:
        """Load all graphs of a level now, so that the first call is as fast as the next."""
        spec = self.bundle.level(level)
        for graph_id in (spec.g_a, spec.h_a, spec.g_s):
            self._engine(graph_id)
        self._grouped_entropy(spec.entropy)

    def _engine(self, graph_id: str) -> TiledEngine:
        with self._lock:
            if graph_id not in self._engines:
                self._engines[graph_id] = self._load_engine(graph_id, self.backend)
            return self._engines[graph_id]

    def _load_engine(self, graph_id: str, backend: Backend) -> TiledEngine:
        spec = self.bundle.graph(graph_id)
        path = self.bundle.graph_path(graph_id)
        engine = backend.load(path, external_data=self.bundle.weights_folder, strict=spec.path == "entropy")
        wanted = _INPUTS.get(spec.transform)
        if wanted is not None and not set(engine.inputs) <= wanted:
            names = ", ".join(sorted(wanted))
            raise BundleError(f"{path}: a graph of {spec.transform} must have the inputs {names}")
        return TiledEngine(engine, self._tiling(spec))

    def _tiling(self, spec: GraphSpec) -> Tiling:
        """How a graph's input is cut into tiles: its rows stand for 1 to z_stride rows of pixels."""
        manifest = self.bundle.manifest
        pixels = {"g_a": 1, "h_a": manifest.y_stride, "h_s": manifest.z_stride, "g_s": manifest.y_stride}
        # The stages' inputs are single phases of y.
        pixels["stage"] = manifest.y_stride * max(entropy.tile for entropy in manifest.entropy)
        side = max(1, self._tile_pixels // pixels[spec.transform])
        if spec.transform == "g_a":  # a tile that begins on the grid of z holds a row of the picture
            return Tiling(spec.reach, side, manifest.y_stride, manifest.z_stride)
        step = manifest.z_stride // manifest.y_stride if spec.transform == "h_a" else 1
        return Tiling(spec.reach, side, step, step)

    def _grouped_entropy(self, variant: int) -> GroupedEntropy:
        with self._lock:
            if variant not in self._entropy:
                self._entropy[variant] = self._proven_entropy(variant)
            return self._entropy[variant]

    def _proven_entropy(self, variant: int) -> GroupedEntropy:
        """An entropy variant on this engine, or on the one that stands in for it where it is not exact."""
        try:
            entropy = GroupedEntropy(self.bundle, variant, self._engine)
            ensure_golden(self.bundle, variant, self.backend, entropy)
            return entropy
        except EngineMismatchError:
            raise
        except EngineError as error:
            if self.backend.entropy_fallback is None:
                raise
            fallback = create_backend(self.backend.entropy_fallback, self.backend.threads)
            _log.warning("note: the entropy path runs on engine %r, because %s", fallback.name, error)
        entropy = GroupedEntropy(self.bundle, variant, lambda graph_id: self._load_engine(graph_id, fallback))
        ensure_golden(self.bundle, variant, fallback, entropy)
        return entropy

    def _tile_limit(self, tile_pixels: int) -> int:
        """The largest tile that this engine takes: engines that are built ahead of time have a limit."""
        limit = self.backend.tile_limit(self.bundle.path) or tile_pixels
        return limit // self.bundle.manifest.z_stride * self.bundle.manifest.z_stride

    def _check_model(self, header: container.Header) -> None:
        bundle = self.bundle
        if header.model_id != bundle.model_id:
            raise WrongBundleError(
                f"the file was made with model {header.model_name} ({header.model_id}), and this bundle is "
                f"{bundle.name} ({bundle.model_id}): name the other bundle with --bundle"
            )
        if header.synthesis_level >= len(bundle.manifest.levels):
            raise FormatError(f"the header names level {header.synthesis_level}, which its model has not")
        if header.entropy >= len(bundle.manifest.entropy):
            raise FormatError(
                f"the header names entropy variant {header.entropy}, which its model does not have"
            )

    def _latent_size(self, header: container.Header) -> tuple[int, int]:
        manifest = self.bundle.manifest
        ratio = manifest.z_stride // manifest.y_stride
        return -(-header.height // manifest.z_stride) * ratio, -(-header.width // manifest.z_stride) * ratio


def _as_picture(
    image: Picture | Pixels, alpha: Pixels | None, icc: bytes | None, exif: bytes | None, xmp: bytes | None
) -> Picture:
    if not isinstance(image, Picture):
        return Picture(image, alpha, icc, exif, xmp)
    if any(extra is not None for extra in (alpha, icc, exif, xmp)):
        raise ValueError("a Picture holds its own alpha and metadata: set them there")
    return image


def _to_planes(pixels: Pixels, rows: Span, columns: Span) -> FloatArray:
    """uint8 (H, W[, 3]), a part of it, to float32 (1, 3, h, w) in [0, 1]; beyond the picture, edges repeat."""
    part = pixels[rows.start : rows.stop, columns.start : columns.stop]
    height, width = part.shape[:2]
    planes = np.empty((1, 3, rows.stop - rows.start, columns.stop - columns.start), np.float32)
    source = part.transpose(2, 0, 1) if part.ndim == 3 else part
    np.multiply(source, np.float32(1 / 255), out=planes[0, :, :height, :width])
    planes[:, :, :height, width:] = planes[:, :, :height, width - 1 : width]
    planes[:, :, height:] = planes[:, :, height - 1 : height]
    return planes


def _to_pixels(planes: FloatArray, pixels: Pixels) -> None:
    """clip(floor(255 x + 0.5)) of float32 (3, h, w) into uint8 (h, w, 3), or of the mean into gray (h, w)."""
    if pixels.ndim == 3:
        to_pixels(planes, pixels)
        return
    for top in range(0, pixels.shape[0], _ROWS_AT_ONCE):
        scaled = planes[:, top : top + _ROWS_AT_ONCE].mean(axis=0) * np.float32(255)
        scaled += np.float32(0.5)
        np.clip(scaled, 0, 255, out=scaled)
        pixels[top : top + _ROWS_AT_ONCE] = scaled
