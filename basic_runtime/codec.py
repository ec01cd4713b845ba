"""The codec: pictures to bytes and back, with a bundle's graphs on an engine."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

from basic_runtime import _native, container
from basic_runtime.arguments import number, whole
from basic_runtime.bundle import Bundle
from basic_runtime.decoding import decode_latent
from basic_runtime.definitions import MAX_EFFORT, PASSES
from basic_runtime.deflate import Buffer
from basic_runtime.encoding import Encoding
from basic_runtime.engines import AUTO, Backend, create_backend
from basic_runtime.errors import BundleError, DesyncError
from basic_runtime.flow import Sink, Source, Trace, no_trace, run
from basic_runtime.limits import DEFAULT_LIMITS, Limits
from basic_runtime.metrics import psnr
from basic_runtime.networks import Networks, VariantCheck
from basic_runtime.picture import Picture, Pixels, as_picture
from basic_runtime.picture_tiles import PictureSink, PictureSource, PictureStrips
from basic_runtime.planes import Constant, Planes
from basic_runtime.post_filter import Weights
from basic_runtime.quality import quality_step
from basic_runtime.target import largest_within, search_twice, smallest_reaching, steps_above
from basic_runtime.tiles import Canvas, Rows

DEFAULT_QUALITY = 50


class _Subject(NamedTuple):
    """A picture to encode, perhaps several times."""

    pixels: Pixels
    extras: tuple[bytes, ...]
    """The chunks of metadata and alpha (`container.pack_extras`)."""


class Codec:
    """Encodes and decodes pictures with one bundle on one engine.

    Graphs are loaded when a level first needs them, and kept. One codec may be used from several threads. A codec that
    is pickled, for another process, or copied arrives without them, and opens its bundle again.
    """

    def __init__(
        self,
        bundle: Bundle | str | os.PathLike[str] | None = None,
        backend: Backend | str = AUTO,
        *,
        threads: int | None = None,
        precision: str | None = None,
        limits: Limits | None = None,
        trace: Trace = no_trace,
        tile_pixels: int | None = None,
    ) -> None:
        """`bundle` is a folder (default: the model that ships with the package), `backend` a name out of
        `engines.BACKENDS`, `threads` how many one call may use, `precision` one of the back-end's: "int16", "float32"
        or "bf16" (default: its first); `trace` is called with the name of each part of the work.
        Pictures with a side above `tile_pixels`, a multiple of 64, are computed over their rows, or in tiles as large
        as a square of that side; None: what suits processors' caches, or the largest picture that engines built ahead
        of time take.

        Raises BundleError, EngineError or MissingExtraError, ValueError or TypeError for wrong arguments.
        """
        if not isinstance(limits, Limits | None):
            raise TypeError(f"limits must be Limits(...) or None, not {type(limits).__name__}")
        if not callable(trace):
            raise TypeError(f"trace must be a function of a name, not {type(trace).__name__}")
        if not isinstance(backend, Backend | str):
            raise TypeError(f"backend must be a Backend or a name, not {type(backend).__name__}")
        if isinstance(backend, Backend) and threads is not None:
            raise ValueError("threads are those of the backend: give them to create_backend")
        if isinstance(backend, Backend) and precision is not None:
            raise ValueError("precision is that of the backend: give it to create_backend")
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle(bundle)
        self.backend = backend if isinstance(backend, Backend) else create_backend(backend, threads, precision)
        self.limits = DEFAULT_LIMITS if limits is None else limits
        self._trace = trace
        self._tile_pixels = tile_pixels
        self._networks = Networks(self.bundle, self.backend, tile_pixels, trace)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy, in another process perhaps, opens the same bundle folder, on such a back-end and with the same limits
        and tiles. It has loaded nothing yet, and no trace, which cannot travel."""
        again = partial(type(self), limits=self.limits, tile_pixels=self._tile_pixels)
        return again, (self.bundle.path.absolute(), self.backend)

    def encode(
        self,
        image: Picture | Pixels,
        *,
        quality: int = DEFAULT_QUALITY,
        level: int | None = None,
        effort: int | None = None,
        alpha: Pixels | None = None,
        icc: bytes | None = None,
        exif: bytes | None = None,
        xmp: bytes | None = None,
    ) -> bytes:
        """Compress a picture: uint8 (H, W, 3) RGB or (H, W) gray, from 1x1, or a Picture with all it carries.

        `quality` 1..100; `level` 0 (cheapest) to 7, None for the best; `effort` 0..9: how long to fit the file to
        the picture, for more quality per byte (None: 1, its filter alone, or 0 with a bundle that can do no more); it
        decodes as fast; `alpha` is uint8 (H, W), lossless.
        Raises TypeError or ValueError for wrong arguments, LimitError for a picture that is too large, BundleError for
        an effort that the bundle has nothing for.
        """
        step = quality_step(quality)
        subject, level, effort = self._subject(as_picture(image, alpha, icc, exif, xmp), level, effort)
        return self._encode(subject, step, level, effort)

    def encode_within(
        self,
        image: Picture | Pixels,
        max_bytes: int,
        *,
        level: int | None = None,
        effort: int | None = None,
        alpha: Pixels | None = None,
        icc: bytes | None = None,
        exif: bytes | None = None,
        xmp: bytes | None = None,
    ) -> bytes:
        """Compress a picture, as `encode` does, at the highest quality whose file has at most `max_bytes`.

        At most four encodes without an effort, unless none of these fits, and one or two with it, or as many from
        effort 2 on. Raises TargetError if even the lowest quality's file is larger, and what `encode` does.
        """
        most, steps = whole("max_bytes", max_bytes), container.QUALITY_STEPS
        if most < 1:
            raise ValueError(f"max_bytes must be 1 or more, not {max_bytes}")
        most = min(most, sys.maxsize)  # larger ones have no logarithm
        subject, level, effort = self._subject(as_picture(image, alpha, icc, exif, xmp), level, effort)

        def search(effort: int, first: int | None) -> tuple[int, bytes]:
            return largest_within(lambda step: self._encode(subject, step, level, effort), steps, most, first)

        if PASSES[effort]:
            return search_twice(search, steps, effort, ahead=1, last_resort=0)
        step, plain = search(0, None)
        data = self._encode(subject, step, level, effort) if effort else plain
        if len(data) <= most:
            return data
        return self._better(subject, step - steps_above(len(data), most), level, plain, most)

    def _better(self, subject: _Subject, step: int, level: int, plain: bytes, most: int) -> bytes:
        """A file without a filter, `plain`, or that of a lower quality step with one, if it fits and is closer to the
        picture."""
        if step < 0:
            return plain
        data, filtered = self._encode_and_decode(subject, step, level, 1)
        if len(data) > most or psnr(subject.pixels, filtered) <= psnr(subject.pixels, self.decode(plain)):
            return plain
        return data

    def encode_reaching(
        self,
        image: Picture | Pixels,
        min_psnr: float,
        *,
        level: int | None = None,
        effort: int | None = None,
        alpha: Pixels | None = None,
        icc: bytes | None = None,
        exif: bytes | None = None,
        xmp: bytes | None = None,
    ) -> bytes:
        """Compress a picture, as `encode` does, at the lowest quality whose picture has a PSNR of at least `min_psnr`
        dB, to a tenth: over all samples, decoded at the same level.

        Usually at most six encodes and decodes; from effort 2 on, those without it come first. Raises TargetError if
        the highest quality does not reach it, and what `encode` does.
        """
        if not number("min_psnr", min_psnr) > 0:
            raise ValueError(f"min_psnr must be more than 0 dB, not {min_psnr}")
        steps = container.QUALITY_STEPS
        subject, level, effort = self._subject(as_picture(image, alpha, icc, exif, xmp), level, effort)
        highest = level == len(self.bundle.manifest.levels) - 1
        way_out = "lower the target" + ("" if highest else ", or take a higher level")

        def search(effort: int, first: int | None) -> tuple[int, bytes]:
            def trial(step: int) -> tuple[bytes, float]:
                data, decoded = self._encode_and_decode(subject, step, level, effort)
                return data, psnr(subject.pixels, decoded)

            return smallest_reaching(trial, steps, min_psnr, first, way_out)

        if PASSES[effort]:
            return search_twice(search, steps, effort, ahead=0, last_resort=steps - 1)
        return search(effort, None)[1]

    def _subject(self, picture: Picture, level: int | None, effort: int | None) -> tuple[_Subject, int, int]:
        """The picture to encode, its level and its effort, all checked."""
        level = len(self.bundle.manifest.levels) - 1 if level is None else whole("level", level)
        self.bundle.level(level)
        effort = self._checked_effort(effort, level)
        self.limits.check_size(picture.width, picture.height)
        with self._trace("container"):
            extras = container.pack_extras(picture.alpha, picture.icc, picture.exif, picture.xmp, self.limits)
        return _Subject(picture.pixels, extras), level, effort

    def _checked_effort(self, effort: int | None, level: int) -> int:
        if effort is None:
            return self.bundle.default_effort
        effort = whole("effort", effort)
        if effort == 0:
            return effort
        if not 0 <= effort <= MAX_EFFORT:
            raise ValueError(f"effort must be 0 to {MAX_EFFORT}, not {effort}")
        if self.bundle.manifest.lambdas is None:
            raise BundleError(f"{self.bundle.path}: does not say what a bit is worth: encode with effort 0")
        if PASSES[effort] and not self._networks.refines(self.bundle.level(level)):
            raise BundleError(f"{self.bundle.path}: has no gradients to refine with: encode with effort 0 or 1")
        return effort

    def _encode(self, subject: _Subject, step: int, level: int, effort: int) -> bytes:
        if not effort:
            return self._written(subject, *self._coded(subject, step, level, effort))
        from basic_runtime.post_filter_fit import strips_of  # not at the top: most commands do without

        height, width = subject.pixels.shape[:2]
        canvas, rows = self._networks.canvas(width, height), strips_of(height, width)
        strips = PictureStrips(rows, width, subject.pixels.ndim == 2, *self._drawing(canvas))
        some = rows if len(rows) > 1 else None  # a single strip is the picture
        header, stream = self._coded(subject, step, level, effort, strips, some)
        return self._written(subject, header, stream, self._fitted_filter(subject.pixels, strips.values, header))

    def _encode_and_decode(self, subject: _Subject, step: int, level: int, effort: int) -> tuple[bytes, Pixels]:
        """A file, and what decoding it will give."""
        height, width = subject.pixels.shape[:2]
        canvas = self._networks.canvas(width, height)
        sink = PictureSink(height, width, subject.pixels.ndim == 2, *self._drawing(canvas))
        header, stream = self._coded(subject, step, level, effort, sink)
        graph, decoded, weights = self.bundle.level(level).g_s, sink.values, None
        if effort:
            from basic_runtime.post_filter_fit import strips_of

            strips = {rows: decoded[slice(*rows)] for rows in strips_of(height, width)}
            weights = self._fitted_filter(subject.pixels, strips, header)
        self._filter(decoded, self._usual_filter(header, graph) if weights is None else weights)
        return self._written(subject, header, stream, weights), decoded

    def _coded(
        self,
        subject: _Subject,
        step: int,
        level: int,
        effort: int,
        decoded: Sink | None = None,
        rows: Iterable[Rows] | None = None,
    ) -> tuple[container.Header, bytes]:
        """The header and the coded latents of a picture; `decoded` gets what g_s makes of them, all or just some
        `rows`."""
        pixels, spec = subject.pixels, self.bundle.level(level)
        height, width = pixels.shape[:2]

        canvas = self._networks.canvas(width, height)
        y = Planes(canvas, self.bundle.manifest.y_stride, integers=False)
        coding = Encoding(self._networks.grouped_entropy(spec.entropy_variant, canvas), canvas, y, self._trace)
        sources: dict[str, Source] = {
            "x": PictureSource(pixels, canvas, self._networks.tile_trace(canvas)),
            "gain": Constant(self.bundle.encode_gain(step), canvas),
        }
        if passes := PASSES[effort]:
            from basic_runtime.refine import Inside, Movable, Places

            sources |= {
                "inside": Inside(height, width, canvas),
                "movable": Movable(height, width, canvas, y.stride),
                "places": Places(canvas, y.stride),
            }
            analysis = [self._networks.refining_step(spec, step, passes, sources, {"y": y, "z": coding.z}, canvas)]
        else:
            analysis = [
                *self._networks.steps(spec.g_a, step, sources, y, canvas),
                *self._networks.steps(spec.h_a, step, {"y": y}, coding.z, canvas, side=canvas.latent_side),
            ]
        steps = [*analysis, *coding.steps]
        if decoded is not None:
            steps += self._networks.synthesis(spec.g_s, step, coding.latent, decoded, canvas, rows)
        run(steps)
        stream, checksum = coding.finish()
        return self._header(pixels, step, level, checksum), stream

    def _header(self, pixels: Pixels, step: int, level: int, checksum: int) -> container.Header:
        height, width = pixels.shape[:2]
        return container.Header(
            model_name=self.bundle.name,
            model_id=self.bundle.model_id,
            width=width,
            height=height,
            level=level,
            entropy_variant=self.bundle.level(level).entropy_variant,
            quality_step=step,
            decode_level=level,
            yhat_crc=checksum,
            gray=pixels.ndim == 2,
        )

    def _written(
        self, subject: _Subject, header: container.Header, stream: bytes, weights: Weights | None = None
    ) -> bytes:
        with self._trace("container"):
            return container.assemble(header, subject.extras, stream, weights, self.limits)

    def _fitted_filter(
        self, pixels: Pixels, decoded: Mapping[Rows, Pixels], header: container.Header
    ) -> Weights | None:
        """Weights of the filter that pay for themselves with this picture, of which strips were decoded."""
        from basic_runtime.post_filter_fit import Moments, fit_if_worthwhile

        with self._trace("filter"):
            moments = Moments(1 if header.gray else 3)
            moments.add_strips(pixels, decoded, self._networks.whole.threads)
            # lambda 255^2 MSE counts the mean over colours of a pixel's squared errors.
            worth = self.bundle.lambda_of(header.quality_step) / moments.colours
            graph = self.bundle.level(header.decode_level).g_s
            return fit_if_worthwhile(moments, worth, self._usual_filter(header, graph))

    def decode(self, data: Buffer, *, level: int | None = None) -> Pixels:
        """Decompress the bytes of a file to uint8 (H, W, 3) RGB, or (H, W) if gray was encoded.

        `level` 0..7 picks how much g_s computes (default: what the file suggests); any level decodes any file. Raises
        TypeError for anything but bytes, FormatError for damaged ones, WrongBundleError for a file of another model,
        DesyncError if this machine decodes other latents than the encoder had, LimitError for a picture too large.
        """
        return self.decode_picture(data, level=level).pixels

    def decode_picture(self, data: Buffer, *, level: int | None = None) -> Picture:
        """Like `decode`, with alpha, ICC profile, EXIF and XMP."""
        with self._trace("container"):
            content = container.read(data, self.limits)
        header = content.header
        self.bundle.check_header(header)
        meant = self._synthesis(header, header.decode_level)
        graph = meant if level is None else self._synthesis(header, level)
        pixels = self._decoded(content, graph)
        weights = content.post_filter if graph == meant else None
        self._filter(pixels, self._usual_filter(header, graph) if weights is None else weights)
        return Picture(pixels, alpha=content.alpha, icc=content.icc, exif=content.exif, xmp=content.xmp)

    def _filter(self, pixels: Pixels, weights: Weights | None) -> None:
        """Pass pixels through a filter, in place."""
        if weights is not None:
            with self._trace("filter"):
                _native.post_filter(pixels, weights, self._networks.whole.threads)

    def _synthesis(self, header: container.Header, level: int) -> str:
        """The g_s of a level, in the model that a file was made with."""
        spec = self.bundle.level(level)
        earlier = self.bundle.manifest.earlier.get(header.model_id)
        return spec.g_s if earlier is None else earlier.synthesis[level]

    def _usual_filter(self, header: container.Header, graph: str) -> Weights | None:
        """The bundle's filter for a g_s; None for files that were made before it had one."""
        earlier = self.bundle.manifest.earlier.get(header.model_id)
        if earlier is not None and not earlier.filtered:
            return None
        return self.bundle.post_filter(graph, header.quality_step, header.gray)

    def _decoded(self, content: container.Container, graph: str) -> Pixels:
        """The pixels that a g_s gives, which no filter has passed."""
        header = content.header
        canvas = self._networks.canvas(header.width, header.height)
        entropy = self._networks.grouped_entropy(header.entropy_variant, canvas)
        latent, checksum = decode_latent(entropy, content.data, canvas, self._trace)
        if checksum != header.yhat_crc:
            raise DesyncError(
                f"the latents decoded by engine {self.backend.name!r} do not match the file's checksum: the "
                "file is damaged, or this engine differs from the encoder's; check it with basic-run verify"
            )
        sink = PictureSink(header.height, header.width, header.gray, *self._drawing(canvas))
        run(self._networks.synthesis(graph, header.quality_step, latent, sink, canvas))
        return sink.values

    def _drawing(self, canvas: Canvas) -> tuple[int, Trace]:
        """Threads and trace of what puts pixels together."""
        return canvas.threads, self._networks.tile_trace(canvas)

    def verify(self) -> list[VariantCheck]:
        """Run every golden vector of the bundle on this engine, whatever is remembered of earlier runs."""
        return self._networks.verify()

    def layer_times(self, graph_id: str) -> dict[str, float]:
        """Milliseconds of each layer of a graph's engine in a repetition of its last run, if engines can tell."""
        return self._networks.layer_times(graph_id)

    def load(self, level: int, *, quality: int = DEFAULT_QUALITY) -> None:
        """Load all graphs of a level now, for a quality, so that the first call is as fast as the next."""
        self._networks.load(level, quality_step(quality))
