"""A training that is killed goes on to the same weights, mixtures and log."""

import os
import signal
import subprocess
import time

import pytest
import torch

from tests.recipe_runs import RECIPE, SIZES, log_of, train, training_command
from tests.trees import write_small_speech, write_small_tree

pytestmark = pytest.mark.slow
# everything that is random: mixtures and their segments, dropout, depth limits
OPTIONS = {
    "N_epochs": 2, "mixtures_per_epoch": 60, "segment_seconds": 0.5, "batch_size": 2,
    "dropout": 0.1, "min_train_depth": 1, "num_workers": 1, "ckpt_interval_minutes": 0,
    "ckpt_interval_steps": 1,
    "warmup_steps": 40, "save_audio": 0, "ema_decay": 0.9,
}


def killed_within_an_epoch(tree, out, speech):
    process = subprocess.Popen(
        training_command(tree, out, speech_folder=speech, **OPTIONS), cwd=RECIPE,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not list((out / "save").glob("CKPT+*")) and time.monotonic() < deadline:
        assert process.poll() is None, "it ended before it was killed"
        time.sleep(0.01)
    time.sleep(0.3)  # into a later step, or into the writing of the next checkpoint
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "train_log.txt").exists()  # the first epoch was not over


def weights_of(out):
    return {part: torch.load(out / f"bundle/{part}.ckpt") for part in ("encoder", "masknet")}


def test_killed_within_an_epoch_it_resumes_to_the_same_weights_and_log(tmp_path):
    tree = write_small_tree(tmp_path / "2speakers", counts=(0, 2, 2))
    speech = write_small_speech(tmp_path / "speech")
    killed_within_an_epoch(tree, tmp_path / "killed", speech)
    resumed = train(tree, tmp_path / "killed", speech_folder=speech, **OPTIONS)
    assert "Going into epoch 1" in resumed.stderr + (tmp_path / "killed/log.txt").read_text()
    train(tree, tmp_path / "whole", speech_folder=speech, **OPTIONS)
    assert log_of(tmp_path / "killed") == log_of(tmp_path / "whole")
    wanted = weights_of(tmp_path / "whole")
    for part, state in weights_of(tmp_path / "killed").items():
        for name, value in state.items():
            assert torch.equal(value, wanted[part][name]), (part, name)


def epochs_of(out):
    """Number of epochs in the log."""
    log = out / "train_log.txt"
    return log.read_text().count("epoch: ") if log.exists() else 0


def test_ctrl_c_at_any_moment_is_one_line_and_status_130_and_training_goes_on(tmp_path):
    """Sent to the workers of the loaders too, as a terminal does."""
    tree, out = write_small_tree(tmp_path / "2speakers", counts=(8, 3, 3)), tmp_path / "out"
    options = {"N_epochs": 500, "num_workers": 2, "ckpt_interval_minutes": 0.001}
    # seconds after the start, and seconds after an epoch has been logged
    for epochs, seconds in ((0, 0.5), (0, 2), (0, 3), (0, 4), (1, 0), (1, 0.1), (1, 0.3), (1, 0.7)):
        wanted = epochs + epochs_of(out)
        process = subprocess.Popen(
            training_command(tree, out, **options), cwd=RECIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, start_new_session=True,
            # a shell that runs the tests in the background has told them to ignore Ctrl-C
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        while process.poll() is None and epochs_of(out) < wanted:
            time.sleep(0.01)
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGINT)
        printed, _ = process.communicate(timeout=60)
        assert process.returncode == 130 and printed.endswith("train.py: stopped\n"), printed
        assert "Traceback" not in printed
    train(tree, out, N_epochs=epochs_of(out) + 1)
    epochs = [line["epoch"] for line in log_of(out) if "epoch" in line]
    assert epochs == [*range(1, len(epochs) + 1)]


def test_other_hyperparameters_than_the_checkpoints_are_refused_in_one_line(tmp_path):
    tree = write_small_tree(tmp_path / "2speakers", counts=(2, 2, 2))
    train(tree, tmp_path / "out", N_epochs=1)
    train(tree, tmp_path / "out", N_epochs=1, max_depth=2)  # a trained model may change that
    for option, value in (("num_slots", 4), ("ffn_dim", 16)):
        done = train(tree, tmp_path / "out", N_epochs=2, check=False, **{option: value})
        assert done.returncode == 2 and "Traceback" not in done.stderr
        assert f"holds checkpoints of {option} {SIZES[option]}, not {value}" in done.stderr


def test_batches_by_length_warm_up_and_tensorboard_work_together(tmp_path):
    tree = write_small_tree(tmp_path / "2speakers", counts=(9, 2, 2))
    options = {"N_epochs": 2, "max_batch_seconds": 1.7, "warmup_steps": 3, "loss_threshold": -30.0,
               "tensorboard": True}
    train(tree, tmp_path / "out", **options)
    epochs = [line for line in log_of(tmp_path / "out") if "epoch" in line]
    assert len(epochs) == 2 and epochs[0]["lr"] == 0.003
    assert list((tmp_path / "out/tensorboard").glob("events*"))
    done = train(tree, tmp_path / "long", check=False, max_batch_seconds=0.1)
    assert done.returncode == 2 and "the longest mixture has" in done.stderr
