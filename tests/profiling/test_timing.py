"""Timing side by side."""

from papez_lobes.profiling import timing
from papez_lobes.profiling.timing import time_interleaved, turns


def test_each_round_begins_with_another():
    assert "".join(turns("abc", rounds=3)) == "abcbcacab"
    assert list(turns([], rounds=3)) == []


def test_functions_take_turns(monkeypatch):
    monkeypatch.setattr(timing, "MIN_SECONDS", 0.001)
    calls = []
    functions = {name: lambda name=name: calls.append(name) for name in "ab"}
    measured = time_interleaved(functions, rounds=2)
    first, second, *_ = order = [name for name, before in zip(calls, [None, *calls])
                                 if name != before]
    assert (first, second) == ("a", "b") and len(order) in (2, 3)  # a, then b twice, then a
    assert all(0 < one.median < 0.01 for one in measured.values())
