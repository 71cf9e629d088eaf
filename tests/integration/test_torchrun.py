"""The recipe under torchrun, as on two machines of one process each (both here)."""

import socket
import subprocess
import sys

import pytest

from tests.recipe_runs import RECIPE, TINY_TRAINING, as_words, log_of, results_of, train
from tests.trees import write_small_speech, write_small_tree

pytestmark = pytest.mark.slow


def free_port():
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def torchrun(words):
    """Start both machines' commands; returns what they printed."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc_per_node=1",
                "--master_addr=localhost", f"--master_port={free_port()}"]
    nodes = [
        subprocess.Popen([*launcher, f"--node_rank={rank}", "train.py", *words], cwd=RECIPE,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for rank in range(2)
    ]
    printed = [node.communicate(timeout=300)[0] for node in nodes]
    return [node.returncode for node in nodes], "".join(printed)


def test_two_machines_train_on_the_fly_and_write_one_result(tmp_path):
    tree, out = write_small_tree(tmp_path / "2speakers", counts=(0, 2, 2)), tmp_path / "out"
    hparams = {"batch_size": 2, "speech_folder": write_small_speech(tmp_path / "speech"),
             "segment_seconds": 0.5, "mixtures_per_epoch": 8, "min_train_depth": 1,
             "training_minutes": 5,
             # by the main process's clock: SpeechBrain broadcasts when it is time
             "ckpt_interval_minutes": 0.0001}
    folders = {"data_folder": tree, "output_folder": out}
    words = as_words({**TINY_TRAINING, **folders, "N_epochs": 2, **hparams})
    codes, printed = torchrun(["hparams/papez.yaml", *words])
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


def test_a_mistake_is_a_line_and_ends_both(tmp_path):
    words = ["hparams/papez.yaml", "--data_folder", "/nowhere", "--device", "cpu",
             "--output_folder", str(tmp_path / "out")]
    codes, printed = torchrun(words)
    assert all(codes) and "broadcast" not in printed, printed  # torchrun itself ends in a traceback
    assert printed.count("train.py: /nowhere: no such folder") == 1


def test_one_batch_by_length_a_process_trains(tmp_path):
    """Each process gets a single batch an epoch, which SpeechBrain's sampler took for a number."""
    tree, out = write_small_tree(tmp_path / "2speakers", counts=(4, 2, 2)), tmp_path / "out"
    own = {"data_folder": tree, "output_folder": out, "N_epochs": 1, "max_batch_seconds": 2.0}
    words = as_words({**TINY_TRAINING, **own})
    codes, printed = torchrun(["hparams/papez.yaml", *words])
    assert codes == [0, 0], printed[-3000:]
    assert (out / "bundle/masknet.ckpt").is_file()
