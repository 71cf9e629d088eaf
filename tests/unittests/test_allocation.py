"""Freed memory that stays with the process."""

import subprocess
import sys

import pytest

STEPS = """
import resource, sys
import torch
from papez_lobes.allocation import keep_freed_memory
if sys.argv[1] == "kept" and not keep_freed_memory():
    sys.exit("not glibc")
def step():  # holds 30 results of 8 MB until its end, as a graph does
    return len([torch.ones(2**21) for _ in range(30)])
step(), step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step(), step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(what):
    done = subprocess.run([sys.executable, "-c", STEPS, what], capture_output=True, text=True)
    if "not glibc" in done.stderr:
        pytest.skip("the C library is not glibc")
    return int(done.stdout)


def test_steps_take_their_memory_from_the_system_once():
    pytest.importorskip("resource")
    assert page_faults("kept") < page_faults("as it is") / 20
