"""The `.basic` file: header, metadata chunks and coded data. The normative text is docs/format.md.

    peek(data)   -> Header              what a file is, from its first 60 bytes
    read(data)   -> Container           everything, checked
    write(container) -> bytes           the same bytes for the same content
    parse(data)  -> (Header, [Chunk])   the chunks as they lie in the file

Whatever the bytes are, `read` gives a container or raises `FormatError` (`TruncatedError` where the file ends
too early) or `LimitError`; nothing is allocated before the size that is asked for has been checked.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from basic_runtime.alpha import decode_alpha, encode_alpha
from basic_runtime.definitions import EXTENSION
from basic_runtime.deflate import Buffer, deflate, inflate
from basic_runtime.errors import FormatError, LimitError, TruncatedError
from basic_runtime.limits import DEFAULT_LIMITS, Limits
from basic_runtime.post_filter import Weights, packed, unpacked

SIGNATURE = b"\x89BSC\r\n\x1a\n"
FORMAT_VERSION = 1
QUALITY_STEPS = 64
LEVELS = 8

CODE, ALPHA, ICC, EXIF, XMP, FILTER = "CODE", "ALPH", "iccp", "exif", "xmpd", "filt"
_STORED, _ZLIB = 0, 1

_NAME = re.compile(r"[A-Za-z0-9._-]{1,15}")
_MODEL_ID = re.compile(r"[0-9a-f]{8}")
_CHUNK_TYPE = re.compile(rb"[A-Za-z]{4}")
_VARINT_BYTES = 5
_AGAIN = "get the file again"


@dataclass(frozen=True, slots=True)
class Header:
    """All that a decoder must know before it touches the coded data."""

    model_name: str
    """Name of the bundle, 1 to 15 of [A-Za-z0-9._-]; for messages, the id decides."""
    model_id: str
    """Identity of the bundle: 8 hexadecimal digits, as in its manifest."""
    width: int
    height: int
    level: int
    """The level that the encoder used, 0..7."""
    entropy_variant: int
    """Index of the bundle's entropy variant (h_s and context model), 0..255."""
    quality_step: int
    """Index of the gain vectors, 0..63."""
    decode_level: int
    """The level whose g_s the encoder suggests, 0..7."""
    yhat_crc: int
    """CRC-32 of the quantised latents, as the decoder must find it."""
    gray: bool = False

    def __post_init__(self) -> None:
        _expect(bool(_NAME.fullmatch(self.model_name)), "the model's name is not 1 to 15 of [A-Za-z0-9._-]")
        _expect(bool(_MODEL_ID.fullmatch(self.model_id)), "the model's id is not 8 hexadecimal digits")
        _expect(1 <= self.width < 1 << 32 and 1 <= self.height < 1 << 32, "the picture has no pixels")
        _expect(0 <= self.level < LEVELS and 0 <= self.decode_level < LEVELS, "there is no such level")
        _expect(0 <= self.entropy_variant < 256, "there is no such entropy variant")
        _expect(0 <= self.quality_step < QUALITY_STEPS, "there is no such quality step")
        _expect(0 <= self.yhat_crc < 1 << 32, "the checksum of the latents is no 32-bit number")


@dataclass(frozen=True, slots=True, eq=False)
class Container:
    """Content of a file. Metadata that is None or empty is not in the file."""

    header: Header
    data: bytes
    """The ANS stream (docs/coder-stream.md)."""
    alpha: npt.NDArray[np.uint8] | None = None
    """Alpha plane, uint8 (height, width), kept losslessly."""
    icc: bytes | None = None
    exif: bytes | None = None
    """EXIF from its TIFF header on (no "Exif\\0\\0" in front); it tells the orientation of the pixels."""
    xmp: bytes | None = None
    post_filter: Weights | None = None
    """For what the g_s of `decode_level` gives; None: that of the bundle."""


class Chunk(NamedTuple):
    """One chunk of a file, its checksum verified."""

    type: str
    payload: memoryview
    size: int
    """Bytes of the whole chunk, its type, length and checksum included."""

    @property
    def critical(self) -> bool:
        """Whether a reader that does not know this type must refuse the file."""
        return self.type[0].isupper()


def write(container: Container, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """The bytes of a file. Raises `LimitError` for what a reader with the same limits would refuse."""
    header = container.header
    limits.check_size(header.width, header.height)
    if container.alpha is not None:
        _expect(container.alpha.shape == (header.height, header.width), "alpha is not of the picture's size")
        _expect(container.alpha.dtype == np.uint8, "alpha is not uint8")
    extras = pack_extras(container.alpha, container.icc, container.exif, container.xmp, limits)
    return assemble(header, extras, container.data, container.post_filter, limits)


def pack_extras(
    alpha: npt.NDArray[np.uint8] | None,
    icc: bytes | None,
    exif: bytes | None,
    xmp: bytes | None,
    limits: Limits = DEFAULT_LIMITS,
) -> tuple[bytes, ...]:
    """The chunks of what goes with a picture's pixels, whatever these are coded to. Raises `LimitError`."""
    chunks = []
    for kind, metadata in ((ICC, icc), (EXIF, exif), (XMP, xmp)):
        if metadata:
            limits.check_bytes(f"the metadata of chunk {kind}", len(metadata), "max_metadata_bytes")
            chunks.append(_pack_chunk(kind, _pack_metadata(metadata), limits))
    if alpha is not None:
        chunks.append(_pack_chunk(ALPHA, encode_alpha(alpha), limits))
    return tuple(chunks)


def assemble(
    header: Header, extras: Sequence[bytes], data: bytes, post_filter: Weights | None, limits: Limits = DEFAULT_LIMITS
) -> bytes:
    """The bytes of a file, of which the chunks of `pack_extras` are packed. Raises `LimitError` as `write` does."""
    chunks = list(extras)
    if post_filter is not None:
        chunks.append(_pack_chunk(FILTER, packed(post_filter), limits))
    chunks.append(_pack_chunk(CODE, data, limits))
    if len(chunks) > limits.max_chunks:
        raise _too_many_chunks(limits)
    file = b"".join((SIGNATURE, _pack_header(header), *chunks))
    limits.check_bytes("the file", len(file), "max_file_bytes")
    return file


def read(data: Buffer, limits: Limits = DEFAULT_LIMITS) -> Container:
    """Everything that is in a file; unknown ancillary chunks are skipped."""
    header, chunks = parse(data, limits)
    payloads = {chunk.type: chunk.payload for chunk in chunks}
    alpha, post_filter = payloads.get(ALPHA), payloads.get(FILTER)
    return Container(
        header,
        bytes(payloads[CODE]),
        None if alpha is None else decode_alpha(alpha, header.height, header.width),
        *unpack_metadata(chunks, limits),
        None if post_filter is None else unpacked(post_filter, header.gray),
    )


def unpack_metadata(
    chunks: Sequence[Chunk], limits: Limits = DEFAULT_LIMITS
) -> tuple[bytes | None, bytes | None, bytes | None]:
    """ICC, EXIF and XMP out of a file's chunks. Raises `FormatError` or `LimitError`."""
    payloads = {chunk.type: chunk.payload for chunk in chunks}
    icc, exif, xmp = (_unpack_metadata(kind, payloads.get(kind), limits) for kind in (ICC, EXIF, XMP))
    return icc, exif, xmp


def peek(data: Buffer) -> Header:
    """The header of a file, from its first 60 bytes or more. Checks no limits and no chunks."""
    return _read_header(_Reader(data))


def parse(data: Buffer, limits: Limits = DEFAULT_LIMITS) -> tuple[Header, list[Chunk]]:
    """Header and all chunks of a file, checksums, order and limits verified, payloads not unpacked."""
    reader = _Reader(data)
    limits.check_bytes("the file", reader.left, "max_file_bytes")
    header = _read_header(reader)
    limits.check_size(header.width, header.height)
    chunks: list[Chunk] = []
    while not chunks or chunks[-1].type != CODE:
        if len(chunks) == limits.max_chunks:
            raise _too_many_chunks(limits)
        chunks.append(_read_chunk(reader, limits))
        if any(chunk.type == chunks[-1].type for chunk in chunks[:-1]):
            raise FormatError(f"chunk {chunks[-1].type} is there twice: {_AGAIN}")
    if reader.left:
        raise FormatError(f"{reader.left} bytes follow the end of the file's data: {_AGAIN}, or cut them off")
    return header, chunks


def _too_many_chunks(limits: Limits) -> LimitError:
    return LimitError(f"the file has more than {limits.max_chunks} chunks: raise the limit max_chunks")


class _Reader:
    """A cursor over bytes; each step names what it reads, for the error if the bytes end."""

    def __init__(self, data: Buffer) -> None:
        try:
            view = memoryview(data)
        except TypeError:
            message = f"a file's bytes are wanted, not {type(data).__name__}: Path(...).read_bytes() has them"
            raise TypeError(message) from None
        self._data = (view if view.c_contiguous else memoryview(bytes(view))).cast("B")
        self.position = 0

    @property
    def left(self) -> int:
        return len(self._data) - self.position

    def take(self, size: int, what: str) -> memoryview:
        if size > self.left:
            raise TruncatedError(
                f"the file is cut off in {what}: {size} bytes should follow and {self.left} do; {_AGAIN}"
            )
        self.position += size
        return self._data[self.position - size : self.position]

    def varint(self, what: str) -> int:
        """An unsigned LEB128 number below 2^32, in its shortest form."""
        value = 0
        for index in range(_VARINT_BYTES):
            byte = self.take(1, what)[0]
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                if value >= 1 << 32 or (index and not byte):
                    break
                return value
        raise FormatError(f"{what} is damaged (bad length field): {_AGAIN}")

    def check_crc(self, start: int, what: str) -> None:
        """Reads a CRC-32, which must be that of all bytes from `start` to here."""
        computed = zlib.crc32(self._data[start : self.position])
        if int.from_bytes(self.take(4, what), "little") != computed:
            raise FormatError(f"{what} is damaged (wrong checksum): {_AGAIN}")


def _read_header(reader: _Reader) -> Header:
    _check_signature(reader)
    start = reader.position
    what = "the header"
    version = reader.take(1, what)[0]
    if version != FORMAT_VERSION:
        raise FormatError(
            f"this is version {version} of the format, and version {FORMAT_VERSION} is the one read here: "
            "install a newer basic-codec"
        )
    name = bytes(reader.take(reader.take(1, what)[0], what))
    model_id = reader.take(4, what).hex()
    width, height = reader.varint(what), reader.varint(what)
    mode, entropy_variant, quality_step = reader.take(3, what)
    yhat_crc = int.from_bytes(reader.take(4, what), "little")
    reader.check_crc(start, what)
    if mode & 0x80:
        raise FormatError("the header uses a reserved bit: install a newer basic-codec")
    try:
        return Header(
            model_name=name.decode("ascii"),
            model_id=model_id,
            width=width,
            height=height,
            gray=bool(mode & 1),
            level=mode >> 1 & 7,
            decode_level=mode >> 4 & 7,
            entropy_variant=entropy_variant,
            quality_step=quality_step,
            yhat_crc=yhat_crc,
        )
    except ValueError as error:
        raise FormatError(f"the header makes no sense ({error}): {_AGAIN}") from error


def _check_signature(reader: _Reader) -> None:
    head = bytes(reader.take(min(reader.left, len(SIGNATURE)), "the signature"))
    if head == SIGNATURE:
        return
    if not head:
        raise TruncatedError(f"the file is empty: {_AGAIN}")
    if SIGNATURE.startswith(head):
        raise TruncatedError(f"the file is cut off in the signature: {_AGAIN}")
    if SIGNATURE[1:4] in head:
        raise FormatError(f"the file was damaged by a transfer in text mode: {_AGAIN}, in binary mode")
    raise FormatError(f"this is no {EXTENSION} file (it begins with {head[:4].hex(' ')}): check its name")


def _pack_header(header: Header) -> bytes:
    name = header.model_name.encode("ascii")
    mode = header.gray | header.level << 1 | header.decode_level << 4
    body = b"".join(
        (
            bytes([FORMAT_VERSION, len(name)]),
            name,
            bytes.fromhex(header.model_id),
            _pack_varint(header.width),
            _pack_varint(header.height),
            bytes([mode, header.entropy_variant, header.quality_step]),
            header.yhat_crc.to_bytes(4, "little"),
        )
    )
    return body + zlib.crc32(body).to_bytes(4, "little")


def _read_chunk(reader: _Reader, limits: Limits) -> Chunk:
    start = reader.position
    if not reader.left:
        raise TruncatedError(f"the file is cut off before its coded data (chunk {CODE}): {_AGAIN}")
    kind = bytes(reader.take(4, "the type of a chunk"))
    if not _CHUNK_TYPE.fullmatch(kind):
        raise FormatError(f"the type of a chunk is damaged ({kind.hex(' ')}): {_AGAIN}")
    name = kind.decode("ascii")
    what = f"chunk {name}"
    size = reader.varint(what)
    payload = reader.take(size, what)
    limits.check_bytes(what, size, "max_chunk_bytes")
    reader.check_crc(start, what)
    chunk = Chunk(name, payload, reader.position - start)
    if chunk.critical and name not in (CODE, ALPHA):
        raise FormatError(f"the file needs the unknown feature {name}: install a newer basic-codec")
    return chunk


def _pack_chunk(kind: str, payload: bytes, limits: Limits) -> bytes:
    limits.check_bytes(f"chunk {kind}", len(payload), "max_chunk_bytes")
    head = kind.encode("ascii") + _pack_varint(len(payload))
    return b"".join((head, payload, zlib.crc32(payload, zlib.crc32(head)).to_bytes(4, "little")))


def _pack_varint(value: int) -> bytes:
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def _pack_metadata(data: bytes) -> bytes:
    packed = bytes([_ZLIB]) + _pack_varint(len(data)) + deflate([data])
    return packed if len(packed) <= len(data) else bytes([_STORED]) + data


def _unpack_metadata(kind: str, payload: memoryview | None, limits: Limits) -> bytes | None:
    if payload is None:
        return None
    what = f"chunk {kind}"
    reader = _Reader(payload)
    method = reader.take(1, what)[0]
    if method not in (_STORED, _ZLIB):
        raise FormatError(f"{what} is packed in an unknown way: install a newer basic-codec")
    size = reader.left if method == _STORED else reader.varint(what)
    if not size:
        raise FormatError(f"{what} is empty: {_AGAIN}")
    limits.check_bytes(what, size, "max_metadata_bytes")
    rest = reader.take(reader.left, what)
    return bytes(rest) if method == _STORED else inflate(rest, size, what)


def _expect(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
