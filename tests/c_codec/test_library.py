"""The installed C library, as programs of others find, load and close it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from c_commands import scene

from basic_runtime.codec import Codec

ROOT = Path(__file__).parents[2]
BUILD = Path(os.environ.get("BASIC_CODEC_BUILD", ROOT / "build-codec")).resolve()
LIBRARY = BUILD / "libbasic_codec.so"
TOOLS = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
PROGRAM = ROOT / "cpp" / "examples" / "there_and_back.c"

pytestmark = pytest.mark.skipif(
    (BUILD / "CMakeCache.txt").is_file() and "BASIC_SANITIZE:BOOL=ON" in (BUILD / "CMakeCache.txt").read_text(),
    reason="sanitizers want programs of their own",
)


def tool(name: str) -> str:
    found = shutil.which(name, path=TOOLS)
    assert found, f"{name} is not there"
    return found


def cmake(*arguments: object) -> str:
    command = [tool("cmake"), *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, "PATH": TOOLS}).stdout


def configured(folder: Path, lines: str, *options: str) -> Path:
    """The build folder of a project in C with the program."""
    folder.mkdir()
    (folder / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.24)\nproject(app LANGUAGES C)\n"
        f"{lines}\nadd_executable(app {PROGRAM})\ntarget_link_libraries(app PRIVATE basic::codec)\n"
    )
    cmake("-S", folder, "-B", folder / "build", "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}", *options)
    return folder / "build"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    prefix = tmp_path_factory.mktemp("installed")
    cmake("--install", BUILD, "--prefix", prefix)
    return prefix


def goes_there_and_back(program: Path, model: Path, tmp_path: Path, environment: Mapping[str, str] = {}) -> None:
    pixels = scene(20, 30)
    (tmp_path / "a.basic").write_bytes(Codec(threads=1).encode(pixels, level=0))
    command = [program, model, tmp_path / "a.basic", tmp_path / "b.basic", "50"]
    subprocess.run(command, check=True, env={**os.environ, **environment})
    assert Codec(threads=1).decode((tmp_path / "b.basic").read_bytes()).shape == pixels.shape


def test_projects_find_it_as_a_package(installed: Path, encoders: Path, tmp_path: Path) -> None:
    build = configured(tmp_path / "app", "find_package(basic_codec 0.1 REQUIRED)", f"-DCMAKE_PREFIX_PATH={installed}")
    cmake("--build", build)
    goes_there_and_back(build / "app", encoders, tmp_path)


def test_projects_have_it_as_a_part(tmp_path: Path) -> None:
    """Without Python. The library itself takes minutes to build, so that the program is not linked here."""
    build = configured(tmp_path / "app", f"add_subdirectory({ROOT} basic)")
    assert "BASIC_PYTHON:BOOL=OFF" in (build / "CMakeCache.txt").read_text()
    name = "CMakeFiles/app.dir" + f"{PROGRAM}.o"
    cmake("--build", build, "--target", name)
    assert (build / name).is_file()
    commands = subprocess.check_output([tool("ninja"), "-C", build, "-t", "commands", "app"], text=True)
    assert "libbasic_codec.so" in commands.splitlines()[-1]


def test_pkg_config_names_whole_paths(tmp_path: Path) -> None:
    """Of folders for libraries that are given as such."""
    libraries = tmp_path / "libraries"
    options = ["-DBASIC_PYTHON=OFF", "-DBASIC_CODEC=ON", "-DCMAKE_INSTALL_PREFIX=/opt/a"]
    for number, (folder, expected) in enumerate(
        [(str(libraries), f"-L{libraries} -lbasic_codec"), ("lib/x", "-L${prefix}/lib/x -lbasic_codec")]
    ):
        build = tmp_path / str(number)
        cmake("-S", ROOT, "-B", build, "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}", *options,
              f"-DCMAKE_INSTALL_LIBDIR={folder}")  # fmt: skip
        prefix = "/opt/a" if number == 0 else "${pcfiledir}/../../../"
        told = (build / "basic_codec.pc").read_text().splitlines()
        assert {f"prefix={prefix}", "Cflags: -I${prefix}/include", f"Libs: {expected}"} <= set(told)


def test_its_code_stays_with_its_threads(installed: Path) -> None:
    """As long as the process, where a program closes it."""
    for library in installed.rglob("*.so"):
        assert "NODELETE" in subprocess.check_output(["readelf", "-d", library], text=True), library


TILES = """
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
data = open(sys.argv[2], "rb").read()
model, picture, error = ctypes.c_void_p(), (ctypes.c_char * 256)(), (ctypes.c_char * 256)()
assert library.basic_model_open(data, ctypes.c_size_t(len(data)), 1, ctypes.byref(model), error) == 0, error.value
data = open(sys.argv[3], "rb").read()
assert library.basic_decode(model, data, ctypes.c_size_t(len(data)), None, picture, error) == 0, error.value
allowed = ctypes.c_uint64()
assert ctypes.CDLL(None).syscall(158, 0x1022, ctypes.byref(allowed)) == 0  # ARCH_GET_XCOMP_PERM of arch_prctl
print(allowed.value >> 18 & 1)
"""


@pytest.mark.skipif("amx_int8" not in Path("/proc/cpuinfo").read_text(), reason="the processor has no AMX")
@pytest.mark.parametrize(("kernel", "asked"), [("avx512vnni", "0"), ("scalar", "0"), ("amx", "1"), ("", "1")])
def test_tiles_are_not_asked_for_where_another_kernel_is_named(
    small_model: Path, tmp_path: Path, kernel: str, asked: str
) -> None:
    (tmp_path / "a.basic").write_bytes(Codec(threads=1).encode(scene(20, 30), level=0))
    command = [sys.executable, "-c", TILES, LIBRARY, small_model, tmp_path / "a.basic"]
    environment = {**os.environ, "BASIC_DOTS_KERNEL": kernel}
    assert subprocess.check_output(command, env=environment, text=True).strip() == asked
