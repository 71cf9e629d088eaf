"""Evaluation without the processes that it measures in, and without its pictures."""

from contextlib import nullcontext

import pytest

from papez_lobes.evaluation.evaluate import _ThisProcess


@pytest.fixture
def in_one_process(monkeypatch):
    """Compute SDR here: a process to do it in takes longer to start."""
    monkeypatch.setattr("papez_lobes.evaluation.evaluate._workers",
                        lambda jobs: nullcontext(_ThisProcess()))


@pytest.fixture
def blank_pictures(monkeypatch):
    """Write an empty file for every mixture's picture, and draw no distribution.

    Drawing takes longer than all the rest.
    """

    def blank(path, *arguments):
        path.touch()
        return path

    monkeypatch.setattr("papez_lobes.evaluation.output_files.draw_separation", blank)
    monkeypatch.setattr("papez_lobes.evaluation.output_files.draw_distribution", lambda rows: b"")
