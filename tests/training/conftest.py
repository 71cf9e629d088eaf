"""A tiny separator for tests of training."""

import pytest


@pytest.fixture
def small(tiny):
    return tiny(num_steps=2)[0].float()
