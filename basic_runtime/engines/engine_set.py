"""Serialised engines in a bundle: where they lie, what their index says, and whether they fit this machine.

engines/<library>-<version>/<target>/index.json      one set: what was built, with what, for which shapes
engines/<library>-<version>/<target>/<graph>.engine

A target is a compute capability, "sm86", or "sm80+": that and most later ones.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from basic_runtime.bundle import MODELS_FOLDER
from basic_runtime.engines.tensorrt_library import TENSORRT_RTX
from basic_runtime.errors import EngineError, EngineMismatchError

FOLDER, INDEX_FILE = "engines", "index.json"
FORMAT, FORMAT_VERSION = "basic-engines", 1

PORTABLE = "sm80+"
"""The default target of TensorRT-RTX: Ampere (8.0) and later, not Turing (7.5)."""
PORTABLE_CAPABILITIES = (80, 86, 89, 120)
"""Compute capabilities that run PORTABLE, with all above the last: the list that TensorRT-RTX gave when it refused an
H100 (9.0)."""

Size = tuple[int, int]
"""Width and height of a picture in pixels."""
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Sizes:
    """Pictures that engines take: the smallest, the one they are tuned for, and the largest that runs in one piece."""

    smallest: Size
    typical: Size
    largest: Size


@dataclass(frozen=True)
class EngineFile:
    """One engine: key: hash of all that made it; bytes and sha256 of the file; seconds the build took;
    minimum, optimum, maximum: shapes of the inputs, by name."""

    key: str
    bytes: int
    sha256: str
    seconds: float
    precision: str
    minimum: dict[str, Shape]
    optimum: dict[str, Shape]
    maximum: dict[str, Shape]


@dataclass(frozen=True)
class EngineSet:
    """The engines of a bundle for one library, version and target, by graph id."""

    library: str
    version: str
    target: str
    precision: str
    sizes: Sizes
    engines: dict[str, EngineFile]

    def to_json(self) -> str:
        fields = {"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(self)}
        return json.dumps(fields, indent=1) + "\n"


def set_folder(bundle: Path, library: str, version: str, target: str) -> Path:
    return bundle / FOLDER / f"{library}-{version}" / target


def engine_path(folder: Path, graph_id: str) -> Path:
    return folder / f"{graph_id}.engine"


def read_set(folder: Path) -> EngineSet:
    """The index of the set in `folder`. Raises EngineError if there is none, or it is damaged."""
    file = folder / INDEX_FILE
    try:
        return _parse(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise EngineError(f"{folder}: no engines, {INDEX_FILE} is missing") from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise EngineError(f"{file}: damaged ({error!r}): build the engines again with basic-export") from error


def read_engine(folder: Path, graph_id: str, described: EngineFile) -> bytes:
    """The bytes of an engine. Raises EngineError unless they are those that were built."""
    path = engine_path(folder, graph_id)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise EngineError(f"{path}: cannot be read ({error.strerror}): build the engines again") from error
    if hashlib.sha256(data).hexdigest() != described.sha256:
        raise EngineError(f"{path}: damaged, its sha256 is not the index's: build the engines again")
    return data


def portable_serves(capability: int) -> bool:
    """Whether GPUs of a compute capability run engines of the target PORTABLE."""
    return capability in PORTABLE_CAPABILITIES or capability > PORTABLE_CAPABILITIES[-1]


def unserved(capability: int) -> bool:
    """Whether TensorRT-RTX runs on no GPU of a compute capability, though some that are older do run PORTABLE."""
    return capability >= PORTABLE_CAPABILITIES[0] and not portable_serves(capability)


def find_set(bundle: Path, library: str, version: str, capability: int) -> tuple[Path, EngineSet]:
    """The set of `bundle` for this library and a GPU of compute capability `capability` (86 for 8.6), and its folder.

    Raises EngineMismatchError if there is none, with the command that builds it, or if the library serves no such GPU.
    """
    if library == TENSORRT_RTX.name and unserved(capability):
        raise EngineMismatchError(
            f"{library} does not run on this GPU, of compute capability {capability / 10}: "
            "choose --engine onnxruntime-cuda, or tensorrt with engines built for it"
        )
    targets = [f"sm{capability}"] + ([PORTABLE] if portable_serves(capability) else [])
    for target in targets:
        folder = set_folder(bundle, library, version, target)
        if (folder / INDEX_FILE).is_file():
            return folder, read_set(folder)
    found = sorted(
        f"{path.parent.parent.name} {path.parent.name}" for path in (bundle / FOLDER).glob(f"*/*/{INDEX_FILE}")
    )
    raise EngineMismatchError(
        f"{bundle}: has no engines for {library} {version} on this GPU (sm{capability}), "
        f"but {', '.join(found) or 'none at all'}; build them with {rebuild_command(bundle, library, capability)}"
    )


def rebuild_command(bundle: Path, library: str, capability: int) -> str:
    """What a user types to build the engines of `bundle` for a GPU."""
    shipped = bundle.parent == MODELS_FOLDER
    source, copy = (bundle.name, f" -o {bundle.name}-gpu") if shipped else (shlex.quote(str(bundle)), "")
    return f"`basic-export {source}{copy} --engine {library} --compute-capability {capability}`"


def _parse(value: Any) -> EngineSet:
    if value["format"] != FORMAT or value["format_version"] != FORMAT_VERSION:
        raise ValueError(f"not {FORMAT} of version {FORMAT_VERSION}")
    sizes = Sizes(*((int(v[0]), int(v[1])) for v in (value["sizes"][k] for k in ("smallest", "typical", "largest"))))
    engines = {str(graph): _parse_engine(item) for graph, item in value["engines"].items()}
    library, version, target, precision = (str(value[name]) for name in ("library", "version", "target", "precision"))
    return EngineSet(library, version, target, precision, sizes, engines)


def _parse_engine(value: Any) -> EngineFile:
    shapes = [
        {str(name): tuple(int(n) for n in shape) for name, shape in value[field].items()}
        for field in ("minimum", "optimum", "maximum")
    ]
    return EngineFile(
        str(value["key"]),
        int(value["bytes"]),
        str(value["sha256"]),
        float(value["seconds"]),
        str(value["precision"]),
        *shapes,
    )
