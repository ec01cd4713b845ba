"""The installed distribution: import cost, commands, extras, and imports that go one way only."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import basic_runtime

HEAVY = ["torch", "onnx", "onnxruntime", "openvino", "matplotlib", "skimage"]
COMMANDS = ["basic-run", "basic-train", "basic-export"]
# What each package may import of the others.
ALLOWED = {
    "basic_runtime": {"basic_runtime"},
    "basic_train": {"basic_runtime", "basic_train"},
    "basic_export": {"basic_runtime", "basic_train", "basic_export"},
}


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-P", "-c", code], check=True, capture_output=True, text=True).stdout


def modules_after(statement: str) -> set[str]:
    return set(json.loads(run_python(f"{statement}\nimport json, sys\nprint(json.dumps(list(sys.modules)))")))


def test_import_brings_no_engine_and_no_numpy() -> None:
    assert not modules_after("import basic_runtime") & {*HEAVY, "numpy", "PIL"}


@pytest.mark.parametrize("name", ["Codec", "Picture"])
def test_library_names_bring_no_engine(name: str) -> None:
    assert not modules_after(f"from basic_runtime import {name}") & set(HEAVY)


def test_command_line_brings_no_engine_and_no_numpy() -> None:
    assert not modules_after("import basic_runtime.cli") & {*HEAVY, "numpy", "PIL"}


def test_another_interpreter_is_refused() -> None:
    """Loading the extension there did not end."""
    found = run_python(
        "try: import _interpreters as others\n"
        "except ImportError: import _xxsubinterpreters as others\n"
        "code = 'try: import basic_runtime._native\\nexcept ImportError as error: print(error, flush=True)'\n"
        "others.run_string(others.create(), code)"
    )
    assert "another: with mod_wsgi, set WSGIApplicationGroup %{GLOBAL}" in found


def test_public_names_exist() -> None:
    for name in basic_runtime.__all__:
        assert getattr(basic_runtime, name) is not None
        assert name in dir(basic_runtime)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = basic_runtime.nonsense


def test_all_errors_can_be_imported_from_the_package() -> None:
    """Those of all modules but engines, which have some among themselves: no one need know where an error comes from
    to catch it."""
    sources = Path(basic_runtime.__file__).parent.glob("*.py")
    trees = [ast.parse(path.read_text("utf-8")) for path in sources]
    classes = [node.name for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)]
    errors = {name for name in classes if name.endswith("Error")}
    assert {"TargetError", "MachineProfileError"} < errors and errors <= set(basic_runtime.__all__)


def test_help_takes_less_than_0_3_seconds() -> None:
    code = "import sys; sys.argv = ['basic-run', '--help']; from basic_runtime.cli import main; main()"
    seconds = []
    for _ in range(5):
        process = subprocess.Popen([sys.executable, "-P", "-c", code], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        seconds.append(usage.ru_utime + usage.ru_stime)  # what else runs on the machine must not count
    assert min(seconds) < 0.3


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_installed(command: str) -> None:
    scripts = importlib.metadata.entry_points(group="console_scripts", name=command)
    assert callable(scripts[command].load())
    result = subprocess.run([Path(sys.executable).with_name(command), "--help"], capture_output=True, text=True)
    assert result.returncode == 0 and command in result.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_ctrl_c_while_a_command_is_imported_is_one_line(command: str) -> None:
    [entry] = importlib.metadata.entry_points(group="console_scripts", name=command)
    code = (
        f"from {entry.module} import main\n"
        "import sys\n"
        "class Stop:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'click': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Stop())\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert done.returncode == 130 and done.stderr == f"{command}: stopped\n"


def test_version_is_that_of_the_distribution() -> None:
    assert importlib.metadata.version("basic-codec") == basic_runtime.__version__


def test_type_information_is_installed() -> None:
    folder = Path(basic_runtime.__file__).parent
    assert (folder / "py.typed").is_file() and (folder / "_native.pyi").is_file()


def test_demo_and_core_need_no_torch() -> None:
    requirements = importlib.metadata.requires("basic-codec") or []
    light = [line for line in requirements if "extra ==" not in line or 'extra == "demo"' in line]
    assert light and not [line for line in light if line.startswith(("torch", "onnx ", "onnx>", "lightning"))]
    extras = set(importlib.metadata.metadata("basic-codec").get_all("Provides-Extra") or [])
    assert {"train", "export", "gpu", "openvino", "tensorrt", "tensorrt-rtx", "demo", "dev"} <= extras


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_go_one_way(package: str) -> None:
    folder = Path(importlib.import_module(package).__file__ or "").parent
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            roots = {name.partition(".")[0] for name in names} & set(ALLOWED)
            assert roots <= ALLOWED[package], f"{path} imports {roots}"
