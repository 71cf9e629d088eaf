"""Memory of long recordings."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's figures"),
]
SCRIPT = """
import re
import numpy as np
import papez_lobes

separator = papez_lobes.load("papez-small-8k", device="cpu")
random = np.random.default_rng(0)
windows = separator.windows(segment=11, overlap=1)
for index in range(50):
    # bursts of any length, so that another number of tokens runs in each window
    loud = np.repeat(random.random(100) < random.random(), 800)
    windows.feed((0.1 * loud * random.standard_normal(80000)).astype(np.float32))
    if index in (19, 49):
        status = open("/proc/self/status").read()
        print(re.search(r"RssAnon:\\s*(\\d+)", status)[1])
"""


def test_memory_does_not_grow_with_the_number_of_windows():
    """Caches of products for each number of rows once grew by a megabyte a window."""
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    early, late = (int(kilobytes) / 1024 for kilobytes in done.stdout.split())
    assert late - early < 12, (early, late)
