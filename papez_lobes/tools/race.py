"""Measuring contestants against each other: in one process, interleaved."""

import time
from dataclasses import dataclass, field

import numpy as np
import torch

from papez_lobes.inference.compute_budget import depth_spread
from papez_lobes.tools.breakdown import breakdown
from papez_lobes.tools.cost import count_macs, peak_bytes, peak_in_child
from papez_lobes.tools.machine import product_rate, synchronize
from papez_lobes.tools.signals import mixture as make_mixture
from papez_lobes.training.losses import pit_si_snr_loss


@dataclass
class Race:
    """The measurements of some contestants.

    Arguments
    ---------
    contestants : list of papez_lobes.tools.contestants.Contestant
        Who runs.
    speech : sequence of str
        Recordings to run on; see `papez_lobes.tools.signals.mixture`.
    device : str
        Where they are.
    rounds : int
        In each, every contestant runs once.
    memory : bool
        Whether peaks of memory are measured too.
    note : callable
        Told, in one line, of a contestant that cannot run.
    tick : callable
        Called after each timed run.
    """

    contestants: list
    speech: tuple = ()
    device: str = "cpu"
    rounds: int = 5
    memory: bool = True
    note: object = print
    tick: object = lambda: None
    results: list = field(default_factory=list)

    def separate(self, seconds, dtype, threads):
        """Measure separations of one length in one dtype, at each number of threads.

        Arguments
        ---------
        seconds : float
            Of audio.
        dtype : str
            One of `papez_lobes.precision.DTYPES`.
        threads : list of int
            Of torch; depth, operations and memory are measured at the largest.
        """
        torch.set_num_threads(max(threads))
        with torch.inference_mode():
            contestants = self._lowered(dtype)
            mixtures = {c: self._mixture(c, seconds) for c in contestants}
            costs = self._each(
                contestants, lambda c: self._cost(c, mixtures[c], seconds, dtype, max(threads))
            )
            for count in threads:
                torch.set_num_threads(count)
                rate = product_rate(dtype, self.device)
                times = self._times(list(costs), lambda c: c(mixtures[c]))
                for contestant, taken in times.items():
                    row = self._row(contestant, "separate", seconds, dtype, count, taken)
                    row |= costs[contestant]
                    self.results.append(row | {"product_macs_per_second": rate})

    def train(self, seconds, dtype, threads):
        """Measure training steps (forward, PIT loss, backward) of one mixture of that length."""
        torch.set_num_threads(max(threads))
        contestants = self._lowered(dtype)  # copies made in inference mode could not be trained
        with torch.inference_mode():
            settled = self._each(contestants, lambda c: c.settle(self._mixture(c, seconds)))
        # not in inference mode: tensors made in it cannot be trained on
        data = {c: self._training_pair(c, seconds) for c in settled}
        for contestant in data:
            contestant.train()
        try:
            for count in threads:
                torch.set_num_threads(count)
                times = self._times(list(data), lambda c: _training_step(c, *data[c]))
                for contestant, taken in times.items():
                    row = self._row(contestant, "train", seconds, dtype, count, taken)
                    self.results.append(row)
        finally:
            for contestant in data:
                contestant.train(False)

    def breakdowns(self, seconds, dtype, threads):
        """Where the time goes in the rows at a mean depth and in the baseline: row's name to what
        `papez_lobes.tools.breakdown.breakdown` gives."""
        torch.set_num_threads(threads)
        with torch.inference_mode():
            parts = self._each(
                [c for c in self._lowered(dtype) if c.entry.kind in ("mean depth", "baseline")],
                lambda c: self._breakdown(c, self._mixture(c, seconds)),
            )
        return {contestant.entry.model: part for contestant, part in parts.items()}

    def _breakdown(self, contestant, mixture):
        contestant.settle(mixture)
        return breakdown(lambda: contestant(mixture))

    def _cost(self, contestant, mixture, seconds, dtype, threads):
        """All of a separation's cost that does not depend on the clock."""
        bias = contestant.settle(mixture)
        estimates, trace = contestant(mixture)
        if not estimates.isfinite().all():
            self.note(f"{contestant.entry.model}: {dtype}, {seconds:g} s: not finite")
        cost = {"macs_per_second": count_macs(lambda: contestant(mixture)) / seconds}
        cost |= _depths(trace) | {"halting_bias": bias, "peak_bytes": None}
        if self.memory and torch.device(self.device).type == "cuda":
            run = lambda: contestant(mixture)  # noqa: E731
            cost["peak_bytes"] = peak_bytes(run, run, self.device)
        if self.memory and torch.device(self.device).type == "cpu":
            cost["peak_bytes"] = peak_in_child(
                contestant.entry, seconds, dtype, threads, bias, self.speech
            )
        return cost

    def _lowered(self, dtype):
        return list(self._each(
            self.contestants, lambda c: c.lowered(dtype, self.device)
        ).values())

    def _times(self, contestants, run):
        """Interleaved times: each contestant's list of seconds, one a round."""

        def timed(contestant):
            synchronize(self.device)
            started = time.perf_counter()
            run(contestant)
            synchronize(self.device)
            self.tick()
            return time.perf_counter() - started

        able = list(self._each(contestants, timed))  # warms up
        return interleave(able, timed, self.rounds)

    def _each(self, contestants, function):
        """function of each contestant; one that fails is noted and left out."""
        done = {}
        for contestant in contestants:
            try:
                done[contestant] = function(contestant)
            except Exception as error:  # whatever a foreign model raises must not end the others
                line = " ".join(str(error).split())[:200]
                self.note(f"{contestant.entry.model} cannot run: {type(error).__name__}: {line}")
        return done

    def _mixture(self, contestant, seconds):
        samples = make_mixture(seconds, contestant.sample_rate, self.speech)
        return torch.from_numpy(samples).unsqueeze(0).to(self.device)

    def _training_pair(self, contestant, seconds):
        mixture = self._mixture(contestant, seconds)
        with torch.no_grad():
            speakers = contestant(mixture[:, : contestant.sample_rate // 4])[0].shape[-1]
        # what the sources are does not matter to the clock, if they differ
        shifts = [mixture.shape[1] * index // speakers for index in range(speakers)]
        return mixture, torch.stack([mixture.roll(shift, 1) for shift in shifts], dim=-1)

    def _row(self, contestant, task, seconds, dtype, threads, taken):
        factors = np.array(taken) / seconds
        return {
            "model": contestant.entry.model, "kind": contestant.entry.kind, "task": task,
            "seconds": seconds, "dtype": dtype, "threads": threads, "device": str(self.device),
            "rtf": float(np.median(factors)), "rtf_min": float(factors.min()),
            "rtf_max": float(factors.max()), "rounds": len(taken),
            "audio_seconds_per_second": float(1 / np.median(factors)),
            "params": contestant.params, "mean_depth": None,
            "macs_per_second": None, "peak_bytes": None,
        }


def interleave(contestants, run, rounds):
    """Run every contestant once a round, each round beginning with another one, so that neither
    a slow spell of the machine nor a neighbour's leftovers in the caches falls on one alone.

    Arguments
    ---------
    contestants : list
        Hashable.
    run : callable
        Takes a contestant; its result is kept.
    rounds : int
        How many.

    Returns
    -------
    dict
        Contestant to its list of results, one a round.

    Example
    -------
    >>> order = []
    >>> _ = interleave(["a", "b", "c"], order.append, rounds=3)
    >>> "".join(order)
    'abcbcacab'
    """
    results = {contestant: [] for contestant in contestants}
    for index in range(rounds):
        first = index % max(1, len(contestants))
        for contestant in [*contestants[first:], *contestants[:first]]:
            results[contestant].append(run(contestant))
    return results


def _depths(trace):
    if trace is None:
        return {"mean_depth": None, "depth_sd": None, "depth_p10": None, "depth_p90": None}
    spread = depth_spread(trace)
    return {
        "mean_depth": spread.mean, "depth_sd": spread.sd,
        "depth_p10": spread.quantiles[0.1], "depth_p90": spread.quantiles[0.9],
    }


def _training_step(contestant, mixture, sources):
    estimates, _ = contestant(mixture)
    pit_si_snr_loss(estimates.float(), sources).mean().backward()
    for parameter in contestant.parameters():
        parameter.grad = None
