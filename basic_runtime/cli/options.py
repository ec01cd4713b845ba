"""Options that several commands share."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import click

from basic_runtime.definitions import DEFAULT_MODEL, MAX_EFFORT
from basic_runtime.limits import DEFAULT_LIMITS
from basic_runtime.threads import MAX_DEFAULT_THREADS


def check_named(what: str, *names: str | None) -> None:
    """Raises click.UsageError for a name that is empty, which would mean the current folder."""
    if "" in names:
        raise click.UsageError(f"{what} is an empty name: is it of a variable that is not set?")


class LevelList(click.ParamType):  # type: ignore[type-arg]  # which it has since click 8.4
    """Levels like 0,3,5-7 as a sorted tuple."""

    name = "levels"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        levels: list[int] = []
        for part in str(value).split(","):
            match = re.fullmatch(r"([0-7])(?:-([0-7]))?", part)
            if match is None or int(match[2] or match[1]) < int(match[1]):
                self.fail(f"{value!r} is no list of levels like 0,3,5-7", param, ctx)
            levels += range(int(match[1]), int(match[2] or match[1]) + 1)
        return tuple(sorted(set(levels)))


class LevelChoice(click.ParamType):  # type: ignore[type-arg]  # which it has since click 8.4
    """A level 0 to 7, or auto."""

    name = "0-7|auto"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        text = str(value)
        if text.lower() == AUTO:  # usage lines show it in capitals
            return AUTO
        if re.fullmatch("[0-7]", text) is None:
            self.fail(f"{text!r} is no level from 0 to 7, nor auto", param, ctx)
        return int(text)


class PictureSize(click.ParamType):  # type: ignore[type-arg]  # which it has since click 8.4
    """Width and height in pixels, like 768x512."""

    name = "WxH"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", str(value))
        if match is None:
            self.fail(f"{value!r} is no size like 768x512", param, ctx)
        return int(match[1]), int(match[2])


class ByteSize(click.ParamType):  # type: ignore[type-arg]  # which it has since click 8.4
    """Bytes, like 40000, 40k or 1.5MB (k and M, large or small, are 1000 and 1,000,000)."""

    name = "bytes"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?)([km]?)b?", str(value).lower())
        size = int(float(match[1]) * {"": 1, "k": 1000, "m": 1_000_000}[match[2]]) if match else 0
        if size < 1:
            self.fail(f"{value!r} is no size like 40000, 40k or 1.5MB", param, ctx)
        return size


class FiniteRange(click.FloatRange):
    """A range of finite numbers: nan is below no bound and above none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is no finite number", param, ctx)
        return number


#: The level for a time budget, by the machine's profile; the default engine.
AUTO = "auto"

#: Milliseconds that --level auto may take by default.
DEFAULT_BUDGET_MS = 1000.0

Command = Callable[..., Any]


def _combine(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def apply(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return apply


precision_option = click.option(
    "--precision",
    type=click.Choice(["int16", "float32", "bf16"]),
    help="int16, what auto takes unless told: the same pixels on all processors; bf16: OpenVINO, on some of them.",
)

threads_option = click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    help=f"Threads for each picture (default: one per core, at most {MAX_DEFAULT_THREADS}; files that are done side by "
    "side share them).",
)

jobs_option = click.option(
    "--jobs", "workers", type=click.IntRange(1, 1024), help="Files at a time (default: one per core, at most 8)."
)

engine_options = _combine(
    click.option(
        "--engine",
        metavar="NAME",
        default=AUTO,
        show_default=True,
        help="Runs the graphs: onnxruntime, openvino, torch, tensorrt-rtx ...; auto: basic-run's own integers.",
    ),
    precision_option,
    threads_option,
)

bundle_option = click.option(
    "--bundle", metavar="DIR", help=f"Model bundle, or the name of an installed one (default: {DEFAULT_MODEL})."
)

codec_options = _combine(bundle_option, engine_options)


def budget_option(best: str) -> Callable[[Command], Command]:
    """--budget-ms, which chooses the best of this."""
    return click.option(
        "--budget-ms",
        type=FiniteRange(min=0, min_open=True),
        metavar="MS",
        help=f"The best {best} that takes no longer on this machine; needs basic-run profile --save once.",
    )


def effort_option(default: str) -> Callable[[Command], Command]:
    """--effort, with what its help says of the default."""
    return click.option(
        "--effort",
        type=click.IntRange(0, MAX_EFFORT),
        help="How long to fit the file to the picture for more quality per byte, 0 to 9; decoding stays as fast "
        f"[default: {default}].",
    )


limit_option = click.option(
    "--max-pixels",
    type=click.IntRange(1),
    metavar="N",
    help=f"Refuse pictures of more pixels than this [default: {DEFAULT_LIMITS.max_pixels}].",
)

output_options = _combine(
    click.option("-o", "--output", metavar="FILE", help="Output for a single input; - is standard output."),
    click.option(
        "--out-dir",
        metavar="DIR",
        help="Folder for the outputs (default: beside each input); the tree of an input folder is kept.",
    ),
    click.option("--overwrite", is_flag=True, help="Replace outputs that exist."),
    click.option("--skip-existing", is_flag=True, help="Leave outputs that exist, and go on without an error."),
    click.option("--json", "as_json", is_flag=True, help="Print the results as JSON on standard output."),
    jobs_option,
)
