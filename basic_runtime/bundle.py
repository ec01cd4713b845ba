"""A model bundle: the directory that `basic-export` writes and the codec runs from.

manifest.json        what is in the bundle, and how its parts make up 8 levels
tables.safetensors   coder tables, index table, gain vectors
weights.bin          weights of all graphs (ONNX external data)
graphs/<id>.onnx     the graphs; id = first 16 hex digits of the file's sha256
golden.safetensors   inputs whose results every engine must reproduce
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from basic_runtime.arguments import whole
from basic_runtime.container import Header
from basic_runtime.definitions import DEFAULT_MODEL, GOLDEN, GRAPHS, MANIFEST, SCALE_ROWS, TABLES
from basic_runtime.errors import BundleError, FormatError, WrongBundleError
from basic_runtime.files import size_of
from basic_runtime.manifest import EntropySpec, GraphSpec, LevelSpec, Manifest, parse_manifest
from basic_runtime.post_filter import Weights, gray_of, interpolated, shape_of

if TYPE_CHECKING:
    from basic_runtime.coder import Tables

BUNDLE_VARIABLE = "BASIC_BUNDLE"
"""Environment variable that names another default bundle."""

_NAME_ONE = f"name a bundle with --bundle (Codec(bundle=...)) or ${BUNDLE_VARIABLE}"

MODELS_FOLDER = Path(__file__).parent / "models"


def default_bundle_path() -> Path:
    """The folder named by $BASIC_BUNDLE, or the bundle that ships with the package.

    Raises BundleError if neither is there.
    """
    named = os.environ.get(BUNDLE_VARIABLE)
    if named:
        return find_bundle(named)
    path = MODELS_FOLDER / DEFAULT_MODEL
    if not (path / MANIFEST).is_file():
        raise BundleError(f"{path}: the default model is not installed; {_NAME_ONE}")
    return path


def find_bundle(given: str | os.PathLike[str]) -> Path:
    """The folder `given`, or, if there is none, the bundle of that name which ships with the package. BundleError
    is raised for an empty name."""
    if not os.fspath(given):
        raise BundleError("a bundle has an empty name: name its folder")
    path = Path(given)
    shipped = MODELS_FOLDER / path
    bare = path.name == os.fspath(given)
    try:
        return shipped if bare and not path.exists() and (shipped / MANIFEST).is_file() else path
    except (OSError, ValueError) as error:  # a name that is too long, or has a null byte
        raise BundleError(f"{given!r}: no bundle can have this name") from error


@dataclass(frozen=True)
class _Tensor:
    """Requirements on a tensor of a safetensors file; None in `shape` stands for any length."""

    name: str
    dtype: type
    shape: tuple[int | None, ...]


#: The largest manifest in bytes.
_MAX_MANIFEST = 16 << 20


def _require_file(path: Path) -> int:
    """The size of a file in bytes. Raises OSError if it is not there, BundleError for a pipe, a device or a folder."""
    size = size_of(path)
    if size is None:
        raise BundleError(f"{path}: is no file: get the bundle again")
    return size


class Bundle:
    """A bundle on disk, checked: its manifest is complete and its files have the hashes written there."""

    def __init__(self, path: str | os.PathLike[str] | None = None, *, verify_hashes: bool = True) -> None:
        """Open the bundle in folder `path`, or that ships with the package under this name (default:
        `default_bundle_path()`).

        Raises BundleError, naming the file and the field, for a bundle that is missing or damaged.
        """
        self.path = find_bundle(path) if path is not None else default_bundle_path()
        self.manifest: Manifest = parse_manifest(self.path / MANIFEST, self._read_json())
        if verify_hashes:
            self._verify_hashes()

    @property
    def name(self) -> str:
        return self.manifest.model_name

    @property
    def model_id(self) -> str:
        """The 8 hex digits that tie a compressed file to this bundle."""
        return self.manifest.model_id

    def check_header(self, header: Header) -> None:
        """Raises WrongBundleError for a file of another model, FormatError for one that names what this has not."""
        if header.model_id != self.model_id and header.model_id not in self.manifest.earlier:
            raise WrongBundleError(
                f"the file was made with model {header.model_name} ({header.model_id}), and this bundle is "
                f"{self.name} ({self.model_id}): name the other bundle with --bundle"
            )
        if header.decode_level >= len(self.manifest.levels):
            raise FormatError(f"the header names level {header.decode_level}, which its model has not")
        if header.entropy_variant >= len(self.manifest.entropy_variants):
            raise FormatError(
                f"the header names entropy variant {header.entropy_variant}, which its model does not have"
            )

    def level(self, index: int) -> LevelSpec:
        """The level `index`, 0 = cheapest. Raises ValueError if there is none, TypeError for no whole number."""
        index = whole("level", index)
        if not 0 <= index < len(self.manifest.levels):
            raise ValueError(f"level must be 0 to {len(self.manifest.levels) - 1}, not {index}")
        return self.manifest.levels[index]

    def entropy(self, index: int) -> EntropySpec:
        """The entropy variant `index` (h_s and its stages). Raises ValueError if there is none."""
        if not 0 <= index < len(self.manifest.entropy_variants):
            raise ValueError(f"entropy variant must be 0 to {len(self.manifest.entropy_variants) - 1}, not {index}")
        return self.manifest.entropy_variants[index]

    def graph(self, graph_id: str) -> GraphSpec:
        return self.manifest.graphs[graph_id]

    def graph_path(self, graph_id: str) -> Path:
        return self.path / GRAPHS / f"{graph_id}.onnx"

    @property
    def weights_folder(self) -> Path:
        """The folder against which the graphs' references to external data are resolved."""
        return self.path

    @cached_property
    def coder_tables(self) -> Tables:
        """The coder's tables: `SCALE_ROWS` rows for the scales of y, then one for each z channel."""
        from basic_runtime.coder import Tables

        try:
            return Tables(*self.coder_rows)
        except ValueError as error:
            raise BundleError(f"{self.path / TABLES}: coder tables: {error}") from error

    @property
    def coder_rows(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Frequencies, sizes, offsets and shifts of the coder's tables, as `coder.Tables` takes them."""
        stored = self._tables
        return stored["coder.freqs"], stored["coder.sizes"], stored["coder.offsets"], stored["coder.shifts"]

    @property
    def index_lut(self) -> NDArray[np.uint8]:
        """(L,) row of the coder's tables for each integer scale."""
        return self._tables["index_lut"]

    def encode_gain(self, quality_step: int) -> NDArray[np.float32]:
        """(1, M, 1, 1) factors that g_a applies to y at this quality step."""
        return self._gain("gain.encode", quality_step)

    def decode_gain(self, quality_step: int) -> NDArray[np.float32]:
        """(1, M, 1, 1) factors that g_s applies to y at this quality step."""
        return self._gain("gain.decode", quality_step)

    def post_filter(self, graph_id: str, quality_step: int, gray: bool) -> Weights | None:
        """Weights of the filter for the pixels of a g_s at this quality step; None if it has none."""
        spec = self.graph(graph_id).post_filter
        if spec is None:
            return None
        known = [np.frombuffer(entry, np.int8).reshape(shape_of(gray=False)) for entry in spec.weights]
        weights = interpolated(spec.steps, known, quality_step)
        return gray_of(weights) if gray else weights

    @property
    def default_effort(self) -> int:
        """The effort when the caller names none: 1 (post-filter only), or 0 for a bundle without lambdas."""
        return 0 if self.manifest.lambdas is None else 1

    def lambda_of(self, quality_step: int) -> float:
        """The lambda of bits per pixel + lambda 255^2 MSE that the model was trained for at this quality step.

        Raises BundleError for a bundle that does not state it.
        """
        if self.manifest.lambdas is None:
            raise BundleError(f"{self.path / MANIFEST}: field lambda is missing")
        lowest, highest = self.manifest.lambdas
        return lowest * math.pow(highest / lowest, quality_step / (self.manifest.quality_steps - 1))

    def golden(self) -> dict[str, NDArray[Any]]:
        """The tensors of golden.safetensors. Raises BundleError if it cannot be read."""
        return self._read_tensors(GOLDEN)

    def _gain(self, name: str, quality_step: int) -> NDArray[np.float32]:
        row: NDArray[np.float32] = self._tables[name][quality_step]
        return row.reshape(1, -1, 1, 1)

    @cached_property
    def _tables(self) -> dict[str, NDArray[Any]]:
        stored = self._read_tensors(TABLES)
        gain_shape = (self.manifest.quality_steps, self.manifest.y_channels)
        rows = SCALE_ROWS + self.manifest.z_channels
        for wanted in (
            _Tensor("coder.freqs", np.uint16, (None,)),
            _Tensor("coder.sizes", np.uint16, (rows,)),
            _Tensor("coder.offsets", np.int32, (rows,)),
            _Tensor("coder.shifts", np.uint8, (rows,)),
            _Tensor("index_lut", np.uint8, (None,)),
            _Tensor("gain.encode", np.float32, gain_shape),
            _Tensor("gain.decode", np.float32, gain_shape),
        ):
            self._require(stored, wanted)
        if stored["index_lut"].size == 0 or int(stored["index_lut"].max()) >= SCALE_ROWS:
            raise BundleError(f"{self.path / TABLES}: index_lut must hold rows 0 to {SCALE_ROWS - 1}")
        return stored

    def _require(self, stored: dict[str, NDArray[Any]], wanted: _Tensor) -> None:
        where = f"{self.path / TABLES}: tensor {wanted.name!r}"
        if wanted.name not in stored:
            raise BundleError(f"{where} is missing")
        found = stored[wanted.name]
        fits = len(found.shape) == len(wanted.shape) and all(
            length is None or length == actual for length, actual in zip(wanted.shape, found.shape, strict=True)
        )
        if found.dtype != wanted.dtype or not fits:
            raise BundleError(
                f"{where} is {found.dtype}{list(found.shape)}, "
                f"not {np.dtype(wanted.dtype)}{[n if n is not None else 'any' for n in wanted.shape]}"
            )

    def _read_tensors(self, name: str) -> dict[str, NDArray[Any]]:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            _require_file(self.path / name)
            return dict(load_file(self.path / name))
        except (OSError, SafetensorError, LookupError, AttributeError, TypeError, ValueError) as error:
            raise BundleError(f"{self.path / name}: {error}") from error

    def _read_json(self) -> Any:
        file = self.path / MANIFEST
        if not self.path.is_dir():
            raise BundleError(f"{self.path}: no such bundle folder: {_NAME_ONE}")
        try:
            if _require_file(file) > _MAX_MANIFEST:
                raise BundleError(f"{file}: is larger than {_MAX_MANIFEST >> 20} MiB, and no manifest")
            return json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise BundleError(f"{self.path}: not a bundle, {MANIFEST} is missing: {_NAME_ONE}") from error
        except (OSError, ValueError, RecursionError) as error:
            raise BundleError(f"{file}: {error}") from error

    def _verify_hashes(self) -> None:
        for name, wanted in self.manifest.files.items():
            if self._sha256(self.path / name) != wanted:
                raise BundleError(f"{self.path / name}: damaged, its sha256 is not the manifest's")
        specs = self.manifest.graphs.values()
        parts = [part.id for spec in specs if spec.parts for part in spec.parts.graphs]
        for graph_id in (*self.manifest.graphs, *parts):
            path = self.graph_path(graph_id)
            if not self._sha256(path).startswith(graph_id):
                raise BundleError(f"{path}: damaged, its sha256 does not start with its name")

    def _sha256(self, path: Path) -> str:
        try:
            _require_file(path)
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise BundleError(f"{path}: {error.strerror or error}") from error
