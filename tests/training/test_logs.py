"""What a training shows on the console, and shares of work among processes."""

import logging
from types import SimpleNamespace

import pytest

from papez_lobes.training.batching import ShareOfBatches
from papez_lobes.training.logs import ConsoleFilter, summary
from papez_lobes.training.processes import on_main


@pytest.mark.parametrize("name, level, shown", [
    ("train_logger", logging.INFO, True),
    ("checkpoints", logging.INFO, False),
    ("checkpoints", logging.WARNING, True),
])
def test_the_console_shows_results_and_warnings(name, level, shown):
    record = logging.LogRecord(f"speechbrain.utils.{name}", level, "", 0, "text", (), None)
    assert ConsoleFilter().filter(record) == shown


def test_a_training_is_described_in_lines():
    best = SimpleNamespace(meta={"epoch": 3, "si_snr_i": 6.2})
    assert summary(5, 90.0, 30.0, best, {}) == [
        "trained 5 epochs in 90.0 minutes on 30.00 hours of audio: 20.0 s of audio a second",
        "best epoch: 3, si_snr_i 6.20 dB on the validation mixtures",
    ]


def test_a_share_of_a_single_batch_is_that_batch():
    batches = [[0, 1], [2, 3]]
    assert list(ShareOfBatches(batches, num_replicas=2, rank=1, shuffle=False)) == [[2, 3]]


def test_what_the_main_process_does_is_returned():
    assert on_main(max, 1, 2) == 2
