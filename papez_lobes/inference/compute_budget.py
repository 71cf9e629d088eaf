"""Compute budget: how much a trained separator computes, chosen at inference.

`halting_threshold`, `max_depth` and `halting_bias` are hyperparameters and can be set directly. The
functions here search for the bias that meets a budget on given speech: a mean depth, or a real-time
factor.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from papez_lobes.devices import synchronize
from papez_lobes.errors import UserError
from papez_lobes.separator import Separator

LOWEST, HIGHEST = -30.0, 30.0  # biases that outweigh every logit: all steps, and one step
CLOSE = 0.01  # tolerance of the search: steps of mean depth, or a share of the real-time factor
NARROW = 1e-7  # a range of biases that is far too small to change a depth
NARROW_TIMED = 0.01  # the same for times, which vary anyway
QUANTILES = (0.1, 0.5, 0.9)
TIMED_RUNS = 3  # of each setting, after one run that is not timed


@dataclass(frozen=True)
class DepthSpread:
    """Distribution of the depths of tokens, in steps."""

    mean: float
    sd: float  # standard deviation
    quantiles: dict[float, float]  # share of the tokens, of QUANTILES -> depth they do not exceed


@dataclass(frozen=True)
class Setting:
    """A halting bias, which is now set, and what it leads to on the given speech."""

    bias: float
    spread: DepthSpread
    real_time_factor: float | None = None  # measured, if the budget is one


def depth_spread(trace: object) -> DepthSpread:
    """Distribution of the depths of all valid tokens of a `papez_lobes.recurrent.Trace`.

    Example
    -------
    >>> from papez_lobes.recurrent import Trace
    >>> depth = torch.tensor([[4, 2, 2, 0]])
    >>> spread = depth_spread(Trace(depth, depth > 0, None))
    >>> round(spread.mean, 2), round(spread.sd, 2), spread.quantiles
    (2.67, 0.94, {0.1: 2.0, 0.5: 2.0, 0.9: 4.0})
    """
    depths = trace.depth[trace.valid].cpu().double()
    # the smallest depth that at least this share of the tokens does not exceed
    cut = {share: depths.quantile(share, interpolation="higher").item() for share in QUANTILES}
    return DepthSpread(depths.mean().item(), depths.std(correction=0).item(), cut)


def set_mean_depth(separator: Separator, mixtures: torch.Tensor, target: float) -> Setting:
    """Set the halting bias so that the mean depth on given speech is the target.

    The depth is a step function of the bias, since similar tokens halt together. The closest bias
    is set; on several seconds of speech its depth is within 0.01 of the target.

    Arguments
    ---------
    separator : papez_lobes.separator.Separator
        In eval mode, with a Papez as its masknet.
    mixtures : torch.Tensor
        [B, T]. All tokens have the same weight.
    target : float
        Mean number of steps, from 1 to the `max_depth` of the separator.

    Raises
    ------
    UserError
        The separator has no recurrence, or no bias reaches the target. The bias is then unchanged.
    """
    halting, spreads = _halting(separator), {}

    def measure():
        spread = spreads[halting.bias] = depth_spread(_trace(separator, mixtures))
        return spread.mean

    tries = _search(halting, measure, LOWEST, target - CLOSE, target + CLOSE, NARROW)
    closest = min(tries, key=lambda bias: abs(tries[bias] - target))
    if not min(tries.values()) - CLOSE <= target <= max(tries.values()) + CLOSE:
        raise UserError(
            f"a mean depth of {target:g} cannot be reached: the nearest is {tries[closest]:.2f} "
            "steps on this speech, at the model's threshold and max_depth"
        )
    halting.bias = closest
    return Setting(closest, spreads[closest])


def set_real_time_factor(
    separator: Separator, mixtures: torch.Tensor, target: float, sample_rate: int,
    measure: Callable[[], float] | None = None,
) -> Setting:
    """Raise the halting bias, as little as needed, until a real-time factor is reached.

    The bias is never lowered: steps that training did not choose can cost decibels as well as
    time. Times are measured on this machine, with its present load, number of threads and device,
    so leave a margin if the load may grow.

    Arguments
    ---------
    separator, mixtures
        See `set_mean_depth`; B counts as B recordings.
    target : float
        Seconds of computing per second of audio, above 0.
    sample_rate : int
        Sampling rate of the separator, in Hz.
    measure : callable, optional
        Function without arguments that returns the seconds of one separation. Default: the median
        of three runs.

    Returns
    -------
    Setting
        With the measured real-time factor.

    Raises
    ------
    UserError
        The separator has no recurrence, or a single step is already slower than the target. The
        bias is then unchanged.
    """
    halting = _halting(separator)
    if not target > 0:
        raise UserError(f"a real-time factor of {target:g}: it must be above 0")
    seconds = mixtures.numel() / sample_rate
    measure = measure or (lambda: median_seconds(separator, mixtures))
    tries = _search(
        halting, lambda: measure() / seconds,
        halting.bias, target * (1 - CLOSE), target, NARROW_TIMED,
    )
    fast = [bias for bias, factor in tries.items() if factor <= target]
    if not fast:
        raise UserError(
            f"a real-time factor of {target:g} cannot be reached: one step of each token takes "
            f"{tries[HIGHEST]:.3g} here"
        )
    halting.bias = min(fast)
    spread = depth_spread(_trace(separator, mixtures))
    return Setting(halting.bias, spread, tries[halting.bias])


def _search(halting, measure, low, least, most, narrow):
    """Bisect the biases from `low` to `HIGHEST` until the measure is from `least` to `most`.

    The measure falls as the bias rises. Returns bias -> measure of all that were tried; the bias
    is then what it was.
    """
    before, high, tries = halting.bias, HIGHEST, {}

    def measure_at(bias):
        halting.bias = bias
        tries[bias] = measure()
        return tries[bias]

    try:
        if measure_at(low) <= most or measure_at(high) >= least:
            return tries
        while high - low > narrow:
            middle = (low + high) / 2
            measured = measure_at(middle)
            if least <= measured <= most:
                break
            low, high = (middle, high) if measured > most else (low, middle)
        return tries
    finally:
        halting.bias = before


def has_recurrence(separator: Separator) -> bool:
    """True if the masknet of a separator is a Papez, whose depth can be set."""
    return hasattr(getattr(separator.masknet, "transformer", None), "halting")


def _halting(separator):
    """The halting of a separator that has a recurrence."""
    if not has_recurrence(separator):
        name = type(separator.masknet).__name__
        raise UserError(f"{name} has no recurrence: only a Papez's depth can be set")
    return separator.masknet.transformer.halting


def _trace(separator, mixtures):
    """The trace of separating mixtures [B, T]."""
    with torch.inference_mode():
        return separator(mixtures, return_trace=True)[1]


def median_seconds(separator: Separator, mixtures: torch.Tensor) -> float:
    """Median time of separating mixtures [B, T], in seconds."""
    times = []
    for _ in range(1 + TIMED_RUNS):
        started = time.perf_counter()
        _trace(separator, mixtures)
        synchronize(mixtures.device)
        times.append(time.perf_counter() - started)
    return sorted(times[1:])[TIMED_RUNS // 2]
