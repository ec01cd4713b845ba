"""Files of a wanted size: the search, the codec and the command."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from basic_runtime import container
from basic_runtime.cli import main
from basic_runtime.cli.options import ByteSize
from basic_runtime.codec import Codec
from basic_runtime.container import peek
from basic_runtime.errors import MachineProfileError, TargetError
from basic_runtime.metrics import psnr
from basic_runtime.target import (
    CLOSE_DECIBELS,
    MAX_PSNR_TRIALS,
    MAX_TRIALS,
    largest_within,
    smallest_reaching,
)

STEPS = 64


@given(
    st.floats(200, 100_000),
    st.floats(0.015, 0.07),
    st.floats(-0.5, 0.5),
    st.floats(0.2, 60),
)
def test_search_fits_closely_in_few_trials(first: float, slope: float, bend: float, factor: float) -> None:
    """Log size as a bent line over the steps, as photos have it."""

    def size(step: int) -> int:
        t = step / (STEPS - 1)
        return int(first * math.exp(slope * (STEPS - 1) * (t + bend * t * (1 - t)))) + step

    calls: list[int] = []

    def encode(step: int) -> bytes:
        calls.append(step)
        return bytes(size(step))

    most = int(first * factor)
    fitting = [step for step in range(STEPS) if size(step) <= most]
    if not fitting:
        with pytest.raises(TargetError, match="the smallest file"):
            largest_within(encode, STEPS, most)
        return
    step, data = largest_within(encode, STEPS, most)
    assert len(data) == size(step) <= most
    assert len(calls) <= MAX_TRIALS or step <= 3
    assert fitting[-1] - step <= 4 or size(fitting[-1]) <= 1.16 * len(data)
    assert len(set(calls)) == len(calls)


@pytest.mark.parametrize(
    ("constant", "base", "fitting"),
    [(0, 1000, 5), (3000, 500, 10), (20_000, 500, 5), (20_000, 2000, 2), (50_000, 3000, 1), (50_000, 500, 40)],
)
def test_search_of_files_of_which_a_profile_is_most(constant: int, base: int, fitting: int) -> None:
    """As long as no file fitted, what the trials told of the slope was not heeded: it took up to nine."""
    calls: list[int] = []

    def size(step: int) -> int:
        return int(constant + base * math.exp(0.0365 * step))

    def encode(step: int) -> bytes:
        calls.append(step)
        return bytes(size(step))

    step, _ = largest_within(encode, STEPS, size(fitting) + 1)
    assert len(calls) <= MAX_TRIALS
    assert step == fitting or size(fitting) <= 1.03 * size(step)


def test_search_tries_the_ends() -> None:
    assert largest_within(lambda step: bytes(100 + step), STEPS, 10_000)[0] == STEPS - 1
    assert largest_within(lambda step: bytes(100 + step), STEPS, 100)[0] == 0
    with pytest.raises(TargetError, match="100 bytes, more than 99"):
        largest_within(lambda step: bytes(100 + step), STEPS, 99)


@given(st.floats(20, 45), st.floats(0.02, 0.4), st.floats(-0.5, 0.5), st.floats(10, 60))
def test_a_psnr_is_reached_in_few_trials(first: float, gain: float, bend: float, target: float) -> None:
    calls: list[int] = []

    def reached(step: int) -> float:
        t = step / (STEPS - 1)
        return first + gain * (STEPS - 1) * (t + bend * t * (1 - t))

    def encode(step: int) -> tuple[bytes, float]:
        calls.append(step)
        return bytes([step]), reached(step)

    if reached(STEPS - 1) < target:
        with pytest.raises(TargetError, match="dB at the highest quality"):
            smallest_reaching(encode, STEPS, target)
        return
    step, data = smallest_reaching(encode, STEPS, target)
    assert data == bytes([step]) and reached(step) >= target
    assert len(set(calls)) == len(calls) <= MAX_PSNR_TRIALS + 3
    assert step == 0 or reached(step - 3) < target or reached(step) - target <= CLOSE_DECIBELS


def test_pictures_without_any_error_reach_every_psnr() -> None:
    assert smallest_reaching(lambda step: (bytes([step]), math.inf), STEPS, 60)[0] == 0


def test_codec_reaches_a_psnr(tiny_path: Path, photo) -> None:
    codec, picture = Codec(tiny_path), photo(96, 128)
    qualities = [codec.encode(picture, quality=quality, level=3) for quality in (10, 50, 90)]
    values = [psnr(picture, codec.decode(data)) for data in qualities]
    data = codec.encode_reaching(picture, values[1], level=3)
    assert psnr(picture, codec.decode(data)) >= values[1] and len(data) < len(qualities[2]) and peek(data).level == 3
    with pytest.raises(TargetError, match="dB at the highest quality, not 90: lower the target$"):
        codec.encode_reaching(picture, 90)
    with pytest.raises(TargetError, match="lower the target, or take a higher level$"):
        codec.encode_reaching(picture, 90, level=6)
    with pytest.raises(ValueError, match="min_psnr must be more than 0 dB, not nan"):
        codec.encode_reaching(picture, math.nan)


def test_codec_stays_within(tiny_path: Path, photo) -> None:
    codec, picture = Codec(tiny_path), photo(96, 128)
    sizes = [len(codec.encode(picture, quality=quality)) for quality in (1, 50, 100)]
    assert sizes[0] < sizes[1] < sizes[2]
    for most in (sizes[0], (sizes[0] + sizes[2]) // 2, sizes[2] + 1):
        data = codec.encode_within(picture, most, level=3)
        assert len(data) <= most and peek(data).level == 3
        assert codec.decode(data).shape == picture.shape
    with pytest.raises(TargetError):
        codec.encode_within(picture, 60)
    for most in (0, -1):
        with pytest.raises(ValueError, match=f"max_bytes must be 1 or more, not {most}"):
            codec.encode_within(picture, most)


def test_targets_that_need_effort_are_met_with_it() -> None:
    image = Image.new("RGB", (256, 256), "white")
    for k in range(12):
        corners = (k * 20, k * 13, k * 20 + 60, k * 13 + 40)
        ImageDraw.Draw(image).rectangle(corners, fill=(k * 20, 255 - k * 17, k * 97 % 255), outline="black")
    codec, drawing = Codec(), np.asarray(image)
    files = [codec.encode(drawing, quality=100, level=0, effort=effort) for effort in (0, 2)]
    reached = [psnr(drawing, codec.decode(data)) for data in files]
    assert reached[1] > reached[0] + 1
    between = sum(reached) / 2
    assert psnr(drawing, codec.decode(codec.encode_reaching(drawing, between, level=0, effort=2))) >= between
    with pytest.raises(TargetError, match=rf"reaches {reached[1]:.2f} dB at the highest quality"):
        codec.encode_reaching(drawing, 90, level=0, effort=2)
    smallest = [len(codec.encode(drawing, quality=1, level=0, effort=effort)) for effort in (0, 4)]
    assert smallest[1] < smallest[0]
    assert len(codec.encode_within(drawing, smallest[1], level=0, effort=4)) == smallest[1]


def test_what_goes_with_a_picture_is_packed_once(tiny_path: Path, photo, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    pack = container.pack_extras
    monkeypatch.setattr(container, "pack_extras", lambda *given: calls.append(1) or pack(*given))
    codec, picture = Codec(tiny_path), photo(96, 128)
    most = len(codec.encode(picture, quality=30, alpha=picture[..., 0])) + 20
    calls.clear()
    data = codec.encode_within(picture, most, alpha=picture[..., 0])
    assert len(calls) == 1 and len(data) <= most
    np.testing.assert_array_equal(codec.decode_picture(data).alpha, picture[..., 0])


@pytest.fixture
def png(tmp_path: Path, photo) -> Path:
    path = tmp_path / "in.png"
    Image.fromarray(photo(96, 128)).save(path)
    return path


def run(*arguments: object):
    return CliRunner().invoke(main, [str(a) for a in arguments], prog_name="basic-run")


@pytest.mark.parametrize(
    ("text", "size"),
    [("100000", 100_000), ("100B", 100), ("100k", 100_000), ("100K", 100_000), ("100kB", 100_000), ("100kb", 100_000),
     ("1.5M", 1_500_000), ("1.5MB", 1_500_000), ("1.5mb", 1_500_000)],
)  # fmt: skip
def test_sizes_as_people_write_them(text: str, size: int) -> None:
    assert ByteSize().convert(text, None, None) == size


def test_command_takes_sizes_and_bits_per_pixel(tiny_path: Path, png: Path, tmp_path: Path) -> None:
    common = ["encode", png, "--bundle", tiny_path, "--json", "--overwrite", "-o", tmp_path / "out.basic"]
    whole = json.loads(run(*common, "-q", 60).stdout)[0]["bytes"]
    for option, value in (("--target-size", whole), ("--target-size", f"{whole / 1000}k")):
        done = run(*common, option, value)
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)[0]["bytes"] == (tmp_path / "out.basic").stat().st_size <= whole
    bits = 8 * whole / (96 * 128)
    done = run(*common, "--target-bpp", bits + 0.001)
    result = json.loads(done.stdout)[0]
    assert result["bpp"] <= bits + 0.001 and 1 <= result["quality"] <= 100
    assert json.loads(run(*common, "--target-bpp", 1e308).stdout)[0]["quality"] == 100
    assert json.loads(run(*common, "--target-psnr", 1).stdout)[0]["quality"] == 1


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--target-size", "50k", "-q", "3"], 2, "exclude each other"),
        (["--target-size", "50k", "--target-bpp", "1"], 2, "exclude each other"),
        (["--target-psnr", "30", "--target-bpp", "1"], 2, "exclude each other"),
        (["--target-psnr", "0"], 2, "x>0"),
        (["--target-psnr", "90"], 1, "in.png: this picture reaches"),
        (["--target-size", "many"], 2, "no size like 40000, 40k or 1.5MB"),
        (["--target-size", "5KiB"], 2, "no size like"),
        (["--target-size", "b"], 2, "no size like"),
        (["--target-size", "0"], 2, "no size like"),
        (["--target-size", "20"], 1, "in.png: the smallest file of this picture has"),
        (["--target-bpp", "0.0001"], 1, "in.png: 0.0001 bits per pixel of this picture are less than a byte"),
        (["--target-bpp", "nan"], 2, "'nan' is no finite number"),
        (["--target-bpp", "inf"], 2, "'inf' is no finite number"),
        (["--budget-ms", "nan"], 2, "'nan' is no finite number"),
        (["--level", "8"], 2, "no level from 0 to 7, nor auto"),
        (["--level", "3", "--budget-ms", "50"], 2, "--budget-ms picks the level"),
        (["--level", "auto"], 1, "has not been measured with model"),
        (["--budget-ms", "50"], 1, "run `basic-run profile --save --engine auto`"),
        (["--budget-ms", "50", "--threads", "1"], 1, "auto with 1 of its threads a picture (by --threads or --jobs)"),
    ],
)
def test_mistakes(
    tiny_path: Path, png: Path, tmp_path: Path, monkeypatch, arguments: list[str], status: int, message: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    done = run("encode", png, "--bundle", tiny_path, "-o", tmp_path / "out.basic", *arguments)
    assert done.exit_code == status and message in done.output
    assert not (tmp_path / "out.basic").exists()


@pytest.mark.parametrize("highest", [0, 1])
def test_levels_by_time(highest: int, tiny_path: Path, png: Path, tmp_path: Path, monkeypatch) -> None:
    """With a bundle that has effort 0 alone, and with one that can weigh bits against errors."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if highest:
        tiny_path = Path(shutil.copytree(tiny_path, tmp_path / "bundle"))
        manifest = json.loads((tiny_path / "manifest.json").read_text())
        manifest["lambda"] = {"lowest": 0.0009, "highest": 0.16}
        (tiny_path / "manifest.json").write_text(json.dumps(manifest))
    done = run("profile", "--save", "--bundle", tiny_path, "--reps", 1, "--json")
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)["times"]
    works = {("encode", 0), ("encode", highest), ("decode", highest)}
    timed = [(level, *work) for level in range(8) for work in works]
    assert sorted((row["level"], row["direction"], row["effort"]) for row in rows) == sorted(timed)
    assert all(len(row["ms"]) == len(row["pixels"]) == 4 and min(row["ms"]) > 0 for row in rows)
    coded, common = tmp_path / "out.basic", ["--bundle", tiny_path, "--overwrite"]
    done = run("encode", png, "-o", coded, *common, "--budget-ms", 1e6)
    assert done.exit_code == 0 and done.stdout.endswith(f"  level 7  effort {highest}\n"), done.output
    assert peek(coded.read_bytes()).level == 7
    by_default = coded.read_bytes()
    done = run("encode", png, "-o", coded, *common, "--budget-ms", 1e6, "--effort", 0)
    assert done.exit_code == 0 and done.stdout.endswith("  level 7\n")
    assert (coded.read_bytes() == by_default) == (highest == 0)
    done = run("encode", png, "-o", coded, *common, "--budget-ms", 1e6, "--effort", 1)
    assert done.exit_code == 1 - highest and (highest or "effort 1 was not measured" in done.output), done.output
    assert run("encode", png, "-o", coded, *common, "--level", "auto").exit_code == 0
    assert run("decode", coded, "-o", tmp_path / "out.png", *common, "--budget-ms", 1e6).exit_code == 0
    done = run("encode", png, "-o", coded, *common, "--budget-ms", 1e-6)
    assert done.exit_code == 1 and "raise --budget-ms" in done.output
    for option in ("--levels", "--effort"):
        done = run("profile", "--save", option, "1", "--bundle", tiny_path)
        assert done.exit_code == 2 and "leave --size, --levels, --plot and --effort out" in done.output


def test_budget_takes_the_highest_level_that_fits() -> None:
    from basic_runtime.machine import LevelTime, MachineProfile

    sizes = (320 * 320, 1024 * 1024, 2048 * 1024)
    times = [
        LevelTime(level, "encode", 0, sizes, (1.0 + level, 10.0 * (level + 1), 30.0 * (level + 1)))
        for level in range(8)
    ]
    slower = [LevelTime(row.level, "encode", 1, sizes, (*(1.5 * ms for ms in row.ms),)) for row in times]
    found = MachineProfile("id", "engine", None, 64, (*times, *slower))

    def choice(width: int, height: int, budget: float, effort: int | None = None) -> tuple[int, int]:
        row = found.within("encode", width, height, budget, effort)
        return row.level, row.effort

    assert choice(1024, 1024, 34) == choice(961, 1000, 34) == (2, 0)
    assert choice(1024, 1024, 46) == (3, 0)  # a level is worth more than an effort
    assert choice(1024, 1024, 46, effort=1) == choice(1024, 1024, 46 - 1e-9, effort=1) == (2, 1)
    assert choice(1024, 1024, 121) == (7, 1) and choice(1024, 1024, 121, effort=0) == (7, 0)
    with pytest.raises(MachineProfileError, match="level 0 takes about 15 ms to encode 1024x1024"):
        choice(1024, 1024, 14, effort=1)
    with pytest.raises(MachineProfileError, match="effort 1 was not measured, as this model has none"):
        MachineProfile("id", "engine", None, 64, tuple(times)).within("encode", 20, 25, 8, 1)
    assert found.computed(961, 1000) == 1024 * 1024  # what is padded takes its time
    assert choice(20, 25, 8) == (7, 0)  # no less than the smallest picture
    assert times[1].predict(1536 * 1024) == pytest.approx(40)  # on the line from 20 to 60
    assert times[1].predict(8 * 1024 * 1024) == pytest.approx(240)
