"""The command `basic-train`, as a user runs it."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import termios
import time
from dataclasses import fields
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import basic_train
from basic_train import recipes
from basic_train.checkpoint import MODEL_FILE, read_header
from basic_train.cli import main
from basic_train.recipe import Recipe
from basic_train.train import LOG_FILE

# Commands run the package that these tests import, wherever that is, and not what lies in the current folder.
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(basic_train.__file__).parents[1]), "OMP_NUM_THREADS": "1"}

QUICK = ["--preset", "tiny", "--crop", "64", "--batch", "2"]


def invoke(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory, photos):
    folder = tmp_path_factory.mktemp("runs") / "new" / "tiny"
    result = invoke("run", *QUICK, "--steps", 3, "--data", photos, "--out", folder)
    assert result.exit_code == 0, result.output
    assert "photos to train on" in result.output and "done: " in result.output
    assert "step 3, 6 patches, loss" in result.output and "held out bpp/dB width 32:" in result.output
    return folder


def test_a_folder_with_a_run_goes_on_with_its_options(run_folder, photos):
    result = invoke("run", "--steps", 5, "--data", photos, "--out", run_folder)
    assert result.exit_code == 0, result.output
    assert "resumed at" in result.output and "step 3, 6 patches" in result.output
    records = [json.loads(line) for line in (run_folder / LOG_FILE).read_text().splitlines()]
    assert records[-1]["step"] == 5 and records[-1]["patches"] == 10
    assert [p for p in run_folder.iterdir() if "tfevents" in p.name]


def test_a_run_starts_from_the_folder_of_another(run_folder, photos, tmp_path):
    arguments = ("run", *QUICK, "--steps", 1, "--start-from", run_folder, "--data", photos, "--out", tmp_path / "r")
    assert invoke(*arguments).exit_code == 0
    again = invoke(*arguments)  # goes on with its own, and says so
    assert again.exit_code == 0 and "is for new ones, and not read" in " ".join(again.output.split())


def test_info_prints_configuration_cost_and_history(run_folder):
    for path in (run_folder, run_folder / MODEL_FILE):
        result = invoke("info", path)
        assert result.exit_code == 0, result.output
        for part in (
            "preset tiny",
            "group-diagonal, 2 channel groups, 8 stages",
            "92,344",
            "patches",
            "0.325",
        ):
            assert part in result.output
    facts = json.loads(invoke("info", run_folder, "--json").output)
    assert facts["config"]["preset"] == "tiny" and facts["history"]["recipe"]["batch"] == 2
    assert len(facts["macs_per_pixel"]) == 3 and facts["parameters"]["g_a"] == 24352


def test_info_of_a_preset():
    facts = json.loads(invoke("info", "--preset", "paper", "--json").output)
    assert facts["history"] is None and sum(facts["parameters"].values()) == 14_133_723


def test_recipes_are_listed_and_printed():
    listed = invoke("recipes").output.splitlines()
    assert [line.split()[0] for line in listed] == recipes.names()
    assert any(line.startswith("paper ") and "joint autoregressive" in line for line in listed)
    printed = invoke("recipes", "hyperprior").output.splitlines()
    assert "quality_steps = 5" in printed and 'preset = "hyperprior"' in printed


def test_every_field_of_a_recipe_has_an_option(photos, tmp_path):
    text = {float: "0.5", int: "1", dict: "lambda_min=0.01", bool: None}
    arguments, expected = [], {}
    for setting in fields(Recipe):
        kind = Recipe.kind(setting.name)
        option = "--" + setting.name.replace("_", "-")
        if setting.name in ("minutes", "crop", "revive", "freeze", "beside") or setting.metadata.get("of"):
            continue  # not with --steps; not 1; of a new net; of other values
        if kind is str:
            value = {"preset": "tiny", "optimizer": "adam", "precision": "32-true", "distortion": "mse"}
            arguments += [option, value.get(setting.name, getattr(Recipe(), setting.name))]
        else:
            arguments += [option, *([text[kind]] if text[kind] else [])]
            expected[setting.name] = {float: 0.5, int: 1, bool: True, dict: {"lambda_min": 0.01}}[kind]
    result = invoke("run", "--crop", "64", *arguments, "--data", photos, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    config, history = read_header(tmp_path / MODEL_FILE)
    assert history["recipe"] | expected == history["recipe"] and history["recipe"]["optimizer"] == "adam"
    assert config.lambda_min == 0.01


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("muon_rate", ("--muon-rate", "0.5"), 0.5),
        ("distillation", ("--distillation", "0.5"), 0.5),
        ("sandwich", ("--no-sandwich",), False),
        ("blend", ("--blend", "learned"), "learned"),
        ("beside_weight", ("--beside-weight", "0.25"), 0.25),
    ],
)
def test_options_of_one_objective_or_optimizer_are_taken_with_it(name, option, value):
    field, needed = next(setting.metadata["of"] for setting in fields(Recipe) if setting.name == name)
    command = main.get_command(click.Context(main), "run")
    arguments = ["--data", "photos", "--out", "run", f"--{field}", needed, *option]
    given = command.make_context("run", arguments).params
    recipe = sys.modules["basic_train.cli.run"]._recipe(Recipe(), {s.name: given[s.name] for s in fields(Recipe)})
    assert getattr(recipe, name) == value != getattr(Recipe(), name) and getattr(recipe, field) == needed


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--muon-rate", 0.1, "--optimizer", "adam"), "--muon-rate: is of --optimizer muon, not adam"),
        (("--distillation", 9), "--distillation: is of --objective distillation, not random-widths"),
        (("--no-sandwich",), "--sandwich: is of --objective distillation, not random-widths"),
        (("--blend", "learned"), "--blend: is of --objective combined, not random-widths"),
        (("--beside-weight", 3), "--beside-weight: is of --objective interchange, not random-widths"),
    ],
)
def test_options_that_would_change_nothing_are_refused(photos, tmp_path, option, message):
    result = invoke("run", *QUICK, *option, "--data", photos, "--out", tmp_path / "run")
    assert result.exit_code == 2 and message in " ".join(result.output.split())
    assert not (tmp_path / "run").exists()


def test_a_model_too_large_for_memory_is_one_line(photos, tmp_path):
    result = invoke("run", *QUICK, "--data", photos, "--out", tmp_path / "run", "--model", f"z_channels={10**12}")
    assert result.exit_code == 1 and "no model can be so large here" in result.output
    assert not (tmp_path / "run").exists()


def test_a_new_net_has_nothing_to_revive(photos, tmp_path):
    result = invoke("run", "--revive", "0", "--preset", "tiny", "--data", photos, "--out", tmp_path, "--crop", "64")
    assert result.exit_code == 1 and "name a checkpoint with --start-from" in result.output


def test_a_run_that_goes_on_is_not_revived(photos, tmp_path):
    options = ("run", *QUICK, "--steps", 1, "--data", photos, "--out", tmp_path)
    assert invoke(*options).exit_code == 0
    again = invoke(*options, "--revive", 0)
    assert again.exit_code == 0 and "--revive is for new ones, and not done again" in " ".join(again.output.split())


def test_a_model_that_cannot_be_leaves_no_folder(photos, tmp_path):
    options = ("--data", photos, "--out", tmp_path / "run", "--model", "y_channels=15")
    result = invoke("run", *QUICK, *options)
    assert result.exit_code == 1 and "15 latent channels do not divide" in result.output
    assert not (tmp_path / "run").exists()


def test_options_change_a_recipe_of_a_file(photos, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('preset = "tiny"\ncrop = 64\nbatch = 4\nsteps = 7\ngamma = true\n')
    options = ("--batch", 2, "--steps", 1, "--no-gamma", "--data", photos, "--out", tmp_path / "run")
    assert invoke("run", "--recipe", path, *options).exit_code == 0
    recipe = read_header(tmp_path / "run" / MODEL_FILE)[1]["recipe"]
    assert (recipe["batch"], recipe["crop"], recipe["steps"], recipe["gamma"]) == (2, 64, 1, False)


def test_mistakes_in_the_model_of_a_file_name_the_file(photos, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('preset = "tiny"\n[model]\ny_chanels = 8\n')
    message = (
        f"error: {path}: preset 'tiny' cannot be changed so: unknown field 'y_chanels'; did you mean 'y_channels'?"
    )
    for arguments in (("recipes", path), ("run", "--recipe", path, "--data", photos, "--out", tmp_path / "run")):
        result = invoke(*arguments)
        assert result.exit_code == 1 and message in result.stderr, result.output
    path.write_text('preset = "tinny"\n')
    assert "unknown preset 'tinny', did you mean 'tiny'?" in invoke("recipes", path).stderr


def test_steps_that_all_lie_in_the_warm_up_are_pointed_out(photos, tmp_path):
    options = ("--steps", 1, "--data", photos, "--out", tmp_path)
    assert "--steps 1: the learning rate rises for 200 and" in " ".join(invoke("run", *QUICK, *options).output.split())
    assert "rises" not in invoke("run", *QUICK, *options, "--steps", 2, "--warmup-steps", 1).output


def test_usage_errors():
    for arguments, message in {
        ("info",): "name a checkpoint, or a preset",
        ("info", "--preset", "huge"): "unknown preset 'huge'",
        ("info", "--preset", "tiny", "photos"): "photos and --preset tiny: one at a time",
        ("run", "--data", "a", "--out", "b", "--model", "widths"): "'widths' is not FIELD=VALUE",
        ("run", "--data", "a", "--out", "b", "--optimizer", "sgd"): "'sgd' is not one of 'muon', 'adam'",
        ("run", "--data", "a", "--out", "b", "--crop", "100"): "multiple of 64",
        ("run", "--data", "a", "--out", "b", "--seed", "-1"): "seed=-1: must not be less than 0",
        (
            "run",
            "--data",
            "a",
            "--out",
            "b",
            "--minutes",
            "1",
            "--steps",
            "1",
        ): "--minutes or --steps, not both",
    }.items():
        result = invoke(*arguments)
        assert result.exit_code == 2 and message in result.output, (arguments, result.output)


def test_errors_are_one_line(run_folder, photos, tmp_path):
    (tmp_path / "file").touch()
    headless = tmp_path / "headless"
    headless.mkdir()
    (headless / "state.pt").touch()
    for arguments, message in {
        ("run", "--preset", "lite", "--data", photos, "--out", run_folder): "go on with are of preset 'tiny'",
        ("run", "--preset", "huge", "--data", photos, "--out", tmp_path / "r"): "unknown preset 'huge'",
        ("run", "--data", tmp_path / "no", "--out", tmp_path / "r"): "no such folder",
        (
            "run",
            *QUICK,
            "--data",
            photos,
            "--out",
            tmp_path / "file" / "r",
        ): "cannot be written (Not a directory)",
        ("run", "--recipe", "papper", "--data", photos, "--out", tmp_path / "r"): "did you mean 'paper'?",
        ("run", *QUICK, "--model", "y_channels=7", "--data", photos, "--out", tmp_path / "r"): "do not divide into",
        ("run", "--optimizer", "adam", "--data", photos, "--out", run_folder): "the optimizer of a run cannot be",
        (
            "run",
            "--preset",
            "lite",
            "--start-from",
            run_folder,
            "--data",
            photos,
            "--out",
            tmp_path / "r",
        ): "the weights to start from are of preset 'tiny', not 'lite'",
        ("run", "--data", photos, "--out", headless): "not its model.safetensors: restore that",
        ("info", tmp_path / "no"): "not a readable checkpoint",
        ("info", tmp_path / "file"): "not a readable checkpoint",
    }.items():
        result = invoke(*arguments)
        error = result.stderr.splitlines()
        assert result.exit_code == 1 and len(error) == 1, (arguments, result.output)
        assert error[0].startswith("basic-train: error: ") and message in error[0], error


def python(code):
    return subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, env=ENVIRONMENT)


def test_importing_the_command_imports_no_torch():
    code = "import sys, basic_train.cli; print([m for m in ('torch', 'rich', 'PIL') if m in sys.modules])"
    assert python(code).stdout.strip() == "[]"


@pytest.mark.parametrize("missing", ["torch", "lightning_fabric", "tensorboard"])
def test_a_missing_package_names_the_extra(missing, photos, tmp_path):
    arguments = ["run", *QUICK, "--data", str(photos), "--out", str(tmp_path / "run")]
    code = f"import sys; sys.modules[{missing!r}] = None; from basic_train.cli import main; main({arguments!r})"
    result = python(code)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "pip install '.[train]' in the sources" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_saves_and_says_how_to_go_on(number, photos, tmp_path):
    command = [sys.executable, "-P", "-m", "basic_train.cli", "run", *QUICK, "--minutes", "60"]
    process = subprocess.Popen(
        [*command, "--save-minutes", "0", "--data", photos, "--out", tmp_path / "run"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / LOG_FILE).exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "stopped and saved at step" in output and "the same command resumes" in output
    assert "terminate called" not in errors and "Traceback" not in errors
    assert (tmp_path / "run" / MODEL_FILE).exists()


def test_a_run_whose_terminal_is_closed_saves(photos, tmp_path):
    ours, theirs = os.openpty()

    def begin():
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # as under nohup the tests ignore it
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "basic_train.cli", "run", *QUICK, "--minutes", "60", "--save-minutes", "60",
         "--data", photos, "--out", tmp_path / "run"],
        stdin=theirs, stdout=theirs, stderr=theirs, env=ENVIRONMENT | {"TERM": "xterm", "COLUMNS": "120"},
        start_new_session=True, preexec_fn=begin,
    )  # fmt: skip
    os.close(theirs)
    shown, deadline = b"", time.monotonic() + 120
    while b"step 2 " not in shown and time.monotonic() < deadline and process.poll() is None:
        shown += os.read(ours, 1 << 16)
    os.close(ours)  # the system sends SIGHUP, and no write to this terminal succeeds from here on
    try:
        assert process.wait(60) == 130, shown
    finally:
        process.kill()
    assert (tmp_path / "run" / MODEL_FILE).exists()
    assert read_header(tmp_path / "run" / MODEL_FILE)[1]["step"] >= 2


def test_a_hang_up_that_nohup_ignores_stays_ignored():
    # In a process of its own: libraries that other tests load leave signal stacks behind that are no more.
    code = """
import signal
from basic_train.signals import heard_by
signal.signal(signal.SIGHUP, signal.SIG_IGN)
heard = []
with heard_by(lambda number, frame: heard.append(number)):
    signal.raise_signal(signal.SIGHUP)
    signal.raise_signal(signal.SIGTERM)
print(heard == [signal.SIGTERM])
"""
    assert python(code).stdout == "True\n"


@pytest.mark.parametrize("preset", ["lite", "paper"])
def test_the_tables_of_the_documentation_are_those_printed(preset):
    page = (Path(__file__).parents[2] / "docs" / "model.md").read_text()
    result = CliRunner(env={"COLUMNS": "80"}).invoke(main, ["info", "--preset", preset])
    printed = [line.split() for line in result.output.splitlines()]
    costs = [row for row in printed if len(row) == 9 and row[0][0].isdigit()]
    assert len(costs) == 5
    for row in costs:
        assert "| " + " | ".join(row) + " |" in page
    assert next(row[1] for row in printed if row[:1] == ["all"]) in page
