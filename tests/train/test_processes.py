"""Runs of several processes, and runs that are killed."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
import worker
from processes import children

import basic_train
from basic_runtime.errors import BasicError
from basic_train import checkpoint
from basic_train.devices import Devices
from basic_train.recipe import Recipe
from basic_train.train import LOG_FILE, MODEL_FILE, STATE_FILE, Trainer, TrainingError

# The installed package, not the source tree that tests may be started from.
ENVIRONMENT = os.environ | {
    "PYTHONPATH": str(Path(basic_train.__file__).parents[1]),
    "PYTHONSAFEPATH": "1",
    "OMP_NUM_THREADS": "1",
}


def records(folder):
    return [json.loads(line) for line in (folder / LOG_FILE).read_text().splitlines()]


def train(recipe, folder, photos):
    trainer = Trainer(recipe, folder, photos, report=lambda line: None)
    trainer.run()
    return trainer


def test_two_processes_make_the_steps_of_one(tmp_path, photos):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, worker.__file__, photos, tmp_path], env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("photos to train on") == 1  # the first process speaks for all
    joint = train(replace(worker.RECIPE, accumulate=2), tmp_path / "joint", photos)
    first, second = (torch.load(tmp_path / f"rank-{rank}.pt") for rank in (0, 1))
    for name, value in joint.module.state_dict().items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], value, rtol=1e-3, atol=3e-4)
    theirs, ours = records(tmp_path / "run"), records(tmp_path / "joint")
    assert len(theirs) == len(ours) == 1
    assert theirs[0]["patches"] == ours[0]["patches"] == 16
    assert theirs[0]["loss"] == pytest.approx(ours[0]["loss"], rel=1e-3)
    assert len(list((tmp_path / "run").glob("events.out.tfevents*"))) == 1


def test_the_command_starts_its_processes(tmp_path, photos):
    command = [sys.executable, "-m", "basic_train.cli", "run", "--recipe", "tiny", "--accelerator", "cpu"]
    options = ["--devices", "2", "--steps", "2", "--crop", "64", "--batch", "2"]
    done = subprocess.run(
        [*command, *options, "--data", photos, "--out", tmp_path],
        env=ENVIRONMENT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("done: ") == 1
    assert checkpoint.read_header(tmp_path / MODEL_FILE)[1]["patches"] == 4


def test_a_stop_while_processes_start_is_heeded_when_they_have(tmp_path, photos):
    command = [sys.executable, "-m", "basic_train.cli", "run", "--recipe", "tiny", "--accelerator", "cpu"]
    options = ["--devices", "2", "--minutes", "60", "--crop", "64", "--batch", "2", "--data", photos]
    heed = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    running = subprocess.Popen(
        [*command, *options, "--out", tmp_path / "run"], env=ENVIRONMENT, preexec_fn=heed, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not has_started_another(running.pid) and running.poll() is None:
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does
    output, errors = running.communicate(timeout=100)
    assert running.returncode == 130 and "Traceback" not in errors
    assert "stopping when all processes have started" in output and "stopped and saved at step 1;" in output


def test_a_machine_waits_for_the_others_until_it_is_stopped(tmp_path, photos):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    places = {"NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, "-m", "basic_train.cli", "run", "--preset", "tiny", "--accelerator", "cpu"]
    options = ["--nodes", "2", "--devices", "2", "--crop", "64", "--batch", "4", "--data", photos]
    heed = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    running = subprocess.Popen(
        [*command, *options, "--out", tmp_path / "run"], env=ENVIRONMENT | places, preexec_fn=heed,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    line = running.stdout.readline()
    assert line == f"this is machine 0 of 2, counted from 0: waiting for the others at 127.0.0.1:{port}\n"
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=30)  # no process holds the pipes any more
    assert running.returncode == 130 and errors.endswith("basic-train: stopped\n")


def test_machines_that_are_not_told_of_each_other_are_refused(tmp_path, photos, monkeypatch):
    monkeypatch.setenv("NODE_RANK", "0")
    with pytest.raises(BasicError, match="--nodes 2: MASTER_ADDR, MASTER_PORT not set; set NODE_RANK"):
        Trainer(replace(worker.RECIPE, accumulate=2), tmp_path, photos, devices=Devices("cpu", nodes=2))


def has_started_another(process):
    """Whether there is another process of a run, not one that a library asks something while it is imported."""
    with suppress(OSError):  # which are short-lived
        return any(b"LOCAL_RANK=1" in Path(f"/proc/{child}/environ").read_bytes() for child in children(process))
    return False


def test_a_killed_run_goes_on_to_the_weights_of_an_uninterrupted_one(tmp_path, photos):
    recipe = Recipe(preset="tiny", steps=12, crop=64, batch=2, save_minutes=1e-6, held_out=1)
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    options = ["--preset", "tiny", "--steps", "12", "--crop", "64", "--batch", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "basic_train.cli", "run", *options, "--save-minutes", "1e-6",
         "--held-out", "1", "--data", photos, "--out", killed],
        env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (killed / STATE_FILE).exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL, "it ended before it was killed"
    resumed, uninterrupted = train(recipe, killed, photos), train(recipe, whole, photos)
    assert resumed.step == uninterrupted.step == 12
    for name, value in uninterrupted.average.weights.items():
        assert torch.equal(resumed.average.weights[name], value), name


def test_batches_that_do_not_divide_are_refused(tmp_path, photos):
    with pytest.raises(TrainingError, match="does not divide into 1 process.* with 3 part"):
        Trainer(replace(worker.RECIPE, accumulate=3), tmp_path, photos)


def test_devices_that_are_not_there_are_refused(tmp_path, photos):
    expected = "cannot start 1 process.* on 'mps': .* is not available; pass other --accelerator"
    with pytest.raises(BasicError, match=expected):
        Trainer(worker.RECIPE, tmp_path, photos, devices=Devices("mps"))
