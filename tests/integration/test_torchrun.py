"""Training on two machines with the recipe's launch lines, one of which dies in the middle.

The machines are network namespaces of this one. Where those cannot be made, two launchers of this
machine stand for them.
"""

import os
import shlex
import socket
import subprocess
import sys
import time

import pytest
import torch

from tests.gradients import OPTIONS, gradients_of, items
from tests.machines import Machine, launch_line, slurm_script, two_machines
from tests.recipe_runs import (
    RECIPE,
    log_of,
    results_of,
    train,
    training_command,
)
from tests.tiny import ROOT
from tests.trees import write_small_speech, write_small_tree

pytestmark = pytest.mark.slow
# everything that is random: mixtures and their segments, dropout, depth limits
RANDOM = {
    "N_epochs": 2, "mixtures_per_epoch": 60, "segment_seconds": 0.5, "batch_size": 2,
    "dropout": 0.1, "min_train_depth": 1, "num_workers": 1, "ckpt_interval_minutes": 0,
    "ckpt_interval_steps": 1, "save_audio": 0, "ema_decay": 0.9,
}


@pytest.fixture(scope="module")
def namespaces(tmp_path_factory):
    with two_machines(tmp_path_factory.mktemp("machines")) as machines:
        yield machines


@pytest.fixture
def machines(namespaces):
    return namespaces or [Machine("localhost")] * 2


def free_port():
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


class Cluster:
    """Two machines of one process each, on which a command of torchrun runs."""

    def __init__(self, machines, words, cwd=RECIPE):
        self.machines, self.cwd = machines, cwd
        self.command = [*launch_line(f"{machines[0].name}:{free_port()}"), *words]
        self.nodes = [None, None]
        for number in range(2):
            self.start(number)

    def start(self, number):
        """Start the command on a machine."""
        self.nodes[number] = self.machines[number].start(
            self.command, cwd=self.cwd, env=os.environ | {"OMP_NUM_THREADS": "1"})

    def finish(self):
        """Wait for both; returns their status, and what they printed."""
        printed = [node.communicate(timeout=600)[0] for node in self.nodes]
        return [node.returncode for node in self.nodes], "".join(printed)


def torchrun(machines, words, cwd=RECIPE):
    return Cluster(machines, words, cwd).finish()


def test_gradients_are_those_of_one_process(machines, tmp_path):
    """One rank's items are of one length and the other's are not, so that modules that run item
    by item are called a different number of times on each."""
    codes, printed = torchrun(machines, ["-m", "tests.gradients", str(tmp_path)], cwd=ROOT)
    assert codes == [0, 0], printed[-3000:]
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for name in OPTIONS:
        expected = gradients_of(name, items())
        scale = max(gradient.abs().max() for gradient in expected.values())
        for key, gradient in expected.items():
            assert torch.equal(ranks[0][name][key], ranks[1][name][key]), (name, key)
            assert (ranks[0][name][key] - gradient).abs().max() <= 1e-5 * scale, (name, key)


def test_a_machine_that_dies_and_comes_back_ends_with_the_same_weights(namespaces, tmp_path):
    """All processes of the second machine are killed at once, and its command is repeated."""
    if namespaces is None:
        pytest.skip("needs root, to kill all processes of a machine at once")
    tree = write_small_tree(tmp_path / "2speakers", counts=(0, 2, 2))
    speech = write_small_speech(tmp_path / "speech")
    interrupted, whole = tmp_path / "interrupted", tmp_path / "whole"

    def command(out):
        return training_command(tree, out, speech_folder=speech, **RANDOM)[1:]

    cluster = Cluster(namespaces, command(interrupted))
    deadline = time.monotonic() + 200
    while not list((interrupted / "save").glob("CKPT+*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)  # into a later step
    assert not (interrupted / "train_log.txt").exists()  # the first epoch was not over
    namespaces[1].die()
    cluster.nodes[1].communicate()
    cluster.start(1)
    codes, printed = cluster.finish()
    assert codes == [0, 0], printed[-3000:]
    assert "going on after epoch 0 and" in (interrupted / "log.txt").read_text()
    codes, printed = torchrun(namespaces, command(whole))
    assert codes == [0, 0], printed[-3000:]
    assert log_of(interrupted) == log_of(whole)
    for part in ("encoder", "masknet", "decoder"):
        wanted, found = (torch.load(out / f"bundle/{part}.ckpt") for out in (whole, interrupted))
        assert wanted.keys() == found.keys()
        for name, value in wanted.items():
            assert torch.equal(value, found[name]), (part, name)


def test_two_machines_train_on_the_fly_and_write_one_result(machines, tmp_path):
    tree, out = write_small_tree(tmp_path / "2speakers", counts=(0, 2, 2)), tmp_path / "out"
    hparams = {"batch_size": 2, "speech_folder": write_small_speech(tmp_path / "speech"),
             "segment_seconds": 0.5, "mixtures_per_epoch": 8, "min_train_depth": 1,
             "training_minutes": 5,
             # by the main process's clock: SpeechBrain broadcasts when it is time
             "ckpt_interval_minutes": 0.0001}
    codes, printed = torchrun(machines, training_command(tree, out, N_epochs=2, **hparams)[1:])
    assert codes == [0, 0], printed[-3000:]
    epochs = [line for line in log_of(out) if "epoch" in line]
    assert [line["epoch"] for line in epochs] == [1, 2]
    assert round(epochs[1]["train audio_hours"] * 3600) == 2 * 8 * 0.5  # each mixture once
    rows, _ = results_of(out)
    assert [row["snt_id"] for row in rows] == ["m00", "m01"]
    assert printed.count(f"{tmp_path / 'speech'}: 3 speakers, ") == 1
    assert printed.count("page:") == 1 and (out / "bundle/masknet.ckpt").is_file()
    train(tree, out, N_epochs=3, **hparams)  # goes on as one process
    epochs = [line for line in log_of(out) if "epoch" in line]
    assert [line["epoch"] for line in epochs] == [1, 2, 3]
    assert round(epochs[2]["train audio_hours"] * 3600) == 3 * 8 * 0.5


def test_a_mistake_is_a_line_and_ends_both(machines, tmp_path):
    words = ["hparams/papez.yaml", "--data_folder", "/nowhere", "--device", "cpu",
             "--output_folder", str(tmp_path / "out")]
    codes, printed = torchrun(machines, ["--max_restarts=0", "train.py", *words])
    assert all(codes) and "broadcast" not in printed, printed  # torchrun itself ends in a traceback
    assert printed.count("train.py: /nowhere: no such folder") == 1


def test_one_batch_by_length_a_process_trains_under_slurm(machines, tmp_path):
    """Each process gets a single batch an epoch, which SpeechBrain's sampler took for a number.

    Stand-ins for SLURM's commands name the machines, and run a command on each.
    """
    tree, out = write_small_tree(tmp_path / "2speakers", counts=(4, 2, 2)), tmp_path / "out"
    training = training_command(tree, out, N_epochs=1, max_batch_seconds=2.0)[1:]
    script = slurm_script(training).replace(":29500", f":{free_port()}")
    (tmp_path / "job.sh").write_text(script)
    launches = [f'{shlex.join(machine.prefix)} "$@" &\n' for machine in machines]
    names = "\n".join(machine.name for machine in reversed(machines))
    for name, content in {
        "srun": f"shift\n{launches[0]}first=$!\n{launches[1]}wait $! && wait $first\n",
        "scontrol": f'test "$*" = "show hostnames machine-[a-b]" && echo "{names}"\n',
        "torchrun": f'exec {sys.executable} -m torch.distributed.run "$@"\n',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{content}")
        (tmp_path / name).chmod(0o755)
    slurm = {"SLURM_NNODES": "2", "SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "1",
             "SLURM_JOB_NODELIST": "machine-[a-b]", "OMP_NUM_THREADS": "1"}
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    done = subprocess.run(["bash", "-eu", tmp_path / "job.sh"], cwd=RECIPE, capture_output=True,
                          text=True, timeout=600, env=os.environ | slurm | {"PATH": path})
    assert done.returncode == 0, done.stderr[-3000:]
    assert (out / "bundle/masknet.ckpt").is_file()
