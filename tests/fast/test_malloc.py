"""Freed memory that stays with the process."""

import mmap
import subprocess
import sys

import pytest

STEPS = """
import resource, sys
import numpy
from papez_lobes.fast.malloc import keep_freed_memory
if not keep_freed_memory():
    sys.exit("not glibc")
def step():  # holds 30 results of 2 MB until its end, as a graph does
    return len([numpy.ones(2**18) for _ in range(30)])
step(), step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step(), step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES = 2 * 30 * 2 * 2**20 // mmap.PAGESIZE  # that the two steps write to


def test_steps_take_their_memory_from_the_system_once():
    """Some systems keep freed memory by themselves: it is not compared with what they do."""
    pytest.importorskip("resource")
    done = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True)
    if "not glibc" in done.stderr:
        pytest.skip("the C library is not glibc")
    assert int(done.stdout) < PAGES / 20
