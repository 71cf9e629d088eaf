"""The one training that the fast tests do: papez_small, and a file that its bundle separates.

It runs in the tests' process, as importing torch and SpeechBrain takes most of the time.
"""

import logging
import runpy
import sys

import pytest

from papez_lobes.cli.main import main
from papez_lobes.data.audio import audio_info
from tests.recipe_runs import RECIPE, SIZES, log_of, training_command
from tests.trees import write_small_tree


@pytest.fixture
def train_here(monkeypatch):
    """Run train.py in this process, whose logging and signals are then as before."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.setattr("papez_lobes.training.processes.end_at_ctrl_c", lambda program: None)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.chdir(RECIPE)

    def train(*arguments, **options):
        _, *words = training_command(*arguments, **options)
        monkeypatch.setattr(sys, "argv", words)
        runpy.run_path(words[0], run_name="__main__")

    yield train
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_trained_papez_small_separates_a_file(tmp_path, train_here):
    tree, out = write_small_tree(tmp_path / "2speakers", counts=(2, 1, 1)), tmp_path / "out"
    width = {"bottleneck_dim": SIZES["N_encoder_out"], "N_encoder_out": None}
    train_here(tree, out, file="papez_small.yaml", N_epochs=1, save_audio=0, **width)
    assert [line["epoch"] for line in log_of(out) if "epoch" in line] == [1]
    mixture = tree / "wav8k/min/tt/mix/m00.wav"
    words = ["separate", str(mixture), "--bundle", str(out / "bundle"), "--out", str(tmp_path)]
    assert main(words) == 0
    for speaker in (1, 2):
        estimate = audio_info(tmp_path / f"m00_s{speaker}.wav")
        assert estimate.frames == audio_info(mixture).frames
