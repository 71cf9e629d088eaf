"""Evaluation without the processes that it measures in."""

from contextlib import nullcontext

import pytest

from papez_lobes.evaluation.evaluate import _ThisProcess


@pytest.fixture
def in_one_process(monkeypatch):
    """Compute SDR here: a process to do it in takes longer to start."""
    monkeypatch.setattr("papez_lobes.evaluation.evaluate._workers",
                        lambda jobs: nullcontext(_ThisProcess()))
