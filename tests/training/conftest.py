"""A tiny separator for tests of training."""

import pytest


@pytest.fixture
def small(tiny):
    return tiny()[0].float()
