"""One thread: the tests' models are tiny, and threads that wait for each other cost them most."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; subprocesses inherit it

import pytest

from tests.tiny import build


@pytest.fixture
def tiny():
    """The builder of tiny separators, as a fixture."""
    return build
