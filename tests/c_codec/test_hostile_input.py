"""Files that were made to take memory or time: one line says what is wrong, soon."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

import pytest
from c_commands import Command, failure
from pictures import PICTURES, RGB, chunk, saved
from PIL import Image

from basic_runtime.codec import Codec
from basic_runtime.imageio import read_picture

ROOT = Path(__file__).parents[2]
BUILD = Path(os.environ.get("BASIC_CODEC_BUILD", ROOT / "build-codec")).resolve()
LONG = b"a" * (15 << 20)
HEAD = 33  # of a PNG, up to the first chunk after its header


@dataclass
class Run:
    done: subprocess.CompletedProcess[bytes]
    megabytes: int
    seconds: float


def run(name: str, *arguments: object, stdin: bytes = b"") -> Run:
    """A command, with the memory and the processor time that it took."""
    code = (
        "import resource, subprocess, sys\n"
        "status = subprocess.run(sys.argv[1:]).returncode\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(used.ru_maxrss // 1024, used.ru_utime + used.ru_stime, file=sys.stderr)\n"
        "sys.exit(status)"
    )
    command = [sys.executable, "-c", code, BUILD / name, *map(str, arguments)]
    done = subprocess.run(command, input=stdin, capture_output=True, check=False)
    *lines, used = done.stderr.splitlines(keepends=True)
    megabytes, seconds = used.split()
    done.stderr = b"".join(lines)
    return Run(done, int(megabytes), float(seconds))


def with_chunks(png: bytes, chunks: list[tuple[bytes, bytes]]) -> bytes:
    return png[:HEAD] + b"".join(chunk(kind, data) for kind, data in chunks) + png[HEAD:]


def xmp(text: bytes, packed: bool = False, method: int = 0) -> tuple[bytes, bytes]:
    body = zlib.compress(text) if packed else text
    return b"iTXt", b"XML:com.adobe.xmp\0" + bytes([packed, method]) + b"\0\0" + body


def test_packed_text_takes_no_memory(encoders: Path) -> None:
    packed = zlib.compress(LONG, 9)
    data = with_chunks(PICTURES["png-rgb"], [(b"zTXt", b"k%d\0\0" % number + packed) for number in range(80)])
    found = run("basic-encode", "--level", 0, "--threads", 1, encoders, "-", "-", stdin=data)
    assert (found.done.returncode, found.done.stderr) == (0, b"")
    assert found.done.stdout == Codec(threads=1).encode(RGB, level=0)
    assert found.megabytes < 600


@pytest.mark.parametrize("kind", ["iTXt", "iCCP"])
def test_of_many_packed_metadata_one_is_unpacked(encoders: Path, kind: str) -> None:
    packed = zlib.compress(LONG, 9)
    head = b"XML:com.adobe.xmp\0\1\0\0\0" if kind == "iTXt" else b"ICC Profile\0\0"
    data = with_chunks(PICTURES["png-rgb"], [(kind.encode(), head + packed)] * 500)
    found = run("basic-encode", "--level", 0, "--effort", 0, encoders, "-", "-", stdin=data)
    assert found.done.returncode == 0
    assert found.seconds < 6


def test_the_last_of_several_metadata_counts(encode: Command, encoders: Path) -> None:
    codec, good, other = Codec(threads=1), xmp(b"<x>1</x>"), xmp(b"<x>2</x>", packed=True)
    profiles = [(b"iCCP", b"p\0\0" + zlib.compress(name * 99)) for name in (b"one", b"two")]
    for chunks in (
        [good, other],
        [other, good],
        [good, xmp(b"<x>3</x>", packed=True, method=1)],
        [good, (b"iTXt", b"XML:com.adobe.xmp\0\0\0no end")],
        [good, (b"iTXt", b"Comment\0\0\0\0\0words")],
        profiles,
    ):
        data = with_chunks(PICTURES["png-rgb"], chunks)
        result = encode("--level", 0, encoders, "-", "-", stdin=data)
        assert (result.returncode, result.stderr) == (0, b"")
        found, expected = codec.decode_picture(result.stdout), read_picture(data)
        assert (found.icc, found.xmp) == (expected.icc, expected.xmp)
        assert found.icc or found.xmp


@pytest.mark.parametrize(
    "kind", [(b"gAMA", struct.pack(">I", 100_000)), (b"sRGB", b"\0"), (b"bKGD", bytes(6)), (b"sBIT", b"\5\6\5")]
)
def test_other_chunks_change_no_pixel(encode: Command, encoders: Path, kind: tuple[bytes, bytes]) -> None:
    result = encode("--level", 0, encoders, "-", "-", stdin=with_chunks(PICTURES["png-rgb"], [kind]))
    assert (result.returncode, result.stdout) == (0, Codec(threads=1).encode(RGB, level=0))


def with_scans(jpeg: bytes, count: int) -> bytes:
    """A progressive JPEG with its last scan so many times more."""
    last = jpeg.rindex(b"\xff\xda")
    return jpeg[:last] + jpeg[last:-2] * (1 + count) + jpeg[-2:]


def test_scans_of_a_jpeg_are_counted(encode: Command, encoders: Path) -> None:
    jpeg = saved(RGB, "JPEG", progressive=True)
    assert encode("--level", 0, encoders, "-", "-", stdin=with_scans(jpeg, 50)).returncode == 0
    assert Image.open(io.BytesIO(with_scans(jpeg, 120))).convert("RGB").size == (53, 41)
    failure(encode("--level", 0, encoders, "-", "-", stdin=with_scans(jpeg, 120)), "more than 100 scans")


def test_headers_of_pam_end(encode: Command, encoders: Path) -> None:
    def pam(keys: int) -> bytes:
        return b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 1\nMAXVAL 255\n" + b"KEY 1\n" * keys + b"ENDHDR\n\0"

    assert encode("--level", 0, encoders, "-", "-", stdin=pam(100)).returncode == 0
    failure(encode("--level", 0, encoders, "-", "-", stdin=pam(20_000)), "no picture", "64 KiB")


def test_files_beyond_2_gib(encode: Command, decode: Command, encoders: Path, tmp_path: Path) -> None:
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.truncate((2 << 30) + 1)
    failure(decode("--info", huge), str(huge), "2 GiB")
    failure(decode(huge, huge, tmp_path / "a.png"), str(huge), "2 GiB")
    failure(encode(encoders, huge, tmp_path / "a.basic"), str(huge), "2 GiB")


def test_a_stream_of_something_else_is_not_read_to_its_end(small_model: Path) -> None:
    for arguments in (["--info", "-"], [small_model, "-", "-"]):
        with open("/dev/zero", "rb") as zero:
            result = subprocess.run([BUILD / "basic-decode", *arguments], stdin=zero, capture_output=True)
        failure(result, "standard input", "no .basic file")
