"""Compute budget: how much a trained separator computes, chosen at inference.

`halting_threshold`, `max_depth` and `halting_bias` are hyperparameters and can be set directly. The
functions here search for the bias that meets a budget on given speech: a mean depth, or a real-time
factor.
"""

import time
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from papez_lobes.devices import synchronize
from papez_lobes.errors import UserError
from papez_lobes.separator import Separator

LOWEST, HIGHEST = -30.0, 30.0  # biases that outweigh every logit: all steps, and one step
CLOSE = 0.01  # tolerance of the search: steps of mean depth, or a share of the real-time factor
HALVINGS = 30  # of the search interval, which is then far too small to change a depth
TIMED_RUNS = 3  # of each setting, after one run that is not timed


@dataclass(frozen=True)
class DepthSpread:
    """Distribution of the depths of tokens, in steps.

    Arguments
    ---------
    mean, sd : float
        Mean and standard deviation.
    quantiles : dict of float to float
        Share of the tokens -> depth that they do not exceed.
    """

    mean: float
    sd: float
    quantiles: dict[float, float]


@dataclass(frozen=True)
class Setting:
    """A halting bias and what it leads to.

    Arguments
    ---------
    bias : float
        The halting bias, which is now set.
    spread : DepthSpread
        Distribution of the depths on the given speech.
    real_time_factor : float or None
        Measured real-time factor, if the budget is one.
    """

    bias: float
    spread: DepthSpread
    real_time_factor: float | None = None


def depth_spread(*traces: object, quantiles: Iterable[float] = (0.1, 0.5, 0.9)) -> DepthSpread:
    """Distribution of the depths of all valid tokens.

    Arguments
    ---------
    traces : papez_lobes.recurrent.Trace
        One or more.
    quantiles : iterable of float
        Shares in [0, 1].

    Returns
    -------
    DepthSpread

    Example
    -------
    >>> from papez_lobes.recurrent import Trace
    >>> depth = torch.tensor([[4, 2, 2, 0]])
    >>> spread = depth_spread(Trace(depth, depth > 0, None), quantiles=[0.5])
    >>> round(spread.mean, 2), round(spread.sd, 2), spread.quantiles
    (2.67, 0.94, {0.5: 2.0})
    """
    depths = torch.cat([trace.depth[trace.valid].cpu().double() for trace in traces])
    # the smallest depth that at least this share of the tokens does not exceed
    cut = {share: depths.quantile(share, interpolation="higher").item() for share in quantiles}
    return DepthSpread(depths.mean().item(), depths.std(correction=0).item(), cut)


def set_mean_depth(
    separator: Separator, mixtures: torch.Tensor | Iterable[torch.Tensor], target: float
) -> Setting:
    """Set the halting bias so that the mean depth on given speech is the target.

    The depth is a step function of the bias, since similar tokens halt together. The closest bias
    is set; on several seconds of speech its depth is within 0.01 of the target.

    Arguments
    ---------
    separator : papez_lobes.separator.Separator
        In eval mode, with a Papez as its masknet.
    mixtures : torch.Tensor or iterable of torch.Tensor
        [B, T], or several of [T] or [B, T]. All tokens have the same weight.
    target : float
        Mean number of steps, from 1 to the `max_depth` of the separator.

    Returns
    -------
    Setting

    Raises
    ------
    UserError
        The separator has no recurrence, or no bias reaches the target. The bias is then unchanged.
    """
    halting, mixtures = _halting(separator), _batches(mixtures)

    def spread_at(bias):
        halting.bias = bias
        return depth_spread(*[_trace(separator, mixture) for mixture in mixtures])

    with _restored_on_failure(halting):
        least, most = spread_at(HIGHEST).mean, spread_at(LOWEST).mean
        if not least - CLOSE <= target <= most + CLOSE:
            raise UserError(
                f"a mean depth of {target:g} cannot be reached: the mean is between {least:.2f} "
                f"and {most:.2f} steps on this speech, at the model's threshold and max_depth"
            )
        low, high, best = LOWEST, HIGHEST, None
        if target >= most - CLOSE or target <= least + CLOSE:
            high = low = HIGHEST if target <= least + CLOSE else LOWEST
        for _ in range(HALVINGS):
            bias = (low + high) / 2
            spread = spread_at(bias)
            if best is None or abs(spread.mean - target) < abs(best.spread.mean - target):
                best = Setting(bias, spread)
            if abs(spread.mean - target) <= CLOSE or low == high:
                break
            low, high = (bias, high) if spread.mean > target else (low, bias)
        halting.bias = best.bias
        return best


def set_real_time_factor(
    separator: Separator, mixture: torch.Tensor, target: float, sample_rate: int,
    measure: Callable[[], float] | None = None,
) -> Setting:
    """Raise the halting bias, as little as needed, until a real-time factor is reached.

    The bias is never lowered: steps that training did not choose can cost decibels as well as
    time. Times are measured on this machine, with its present load, number of threads and device,
    so leave a margin if the load may grow.

    Arguments
    ---------
    separator : papez_lobes.separator.Separator
        In eval mode, with a Papez as its masknet.
    mixture : torch.Tensor
        [B, T]; B counts as B recordings.
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
    seconds = mixture.numel() / sample_rate
    measure = measure or (lambda: median_seconds(separator, mixture))

    def factor_at(bias):
        halting.bias = bias
        return measure() / seconds

    with _restored_on_failure(halting):
        low, high = halting.bias, HIGHEST
        factor = factor_at(low)
        best = (low, factor) if factor <= target else None
        if best is None:
            fastest = factor_at(high)
            if fastest > target:
                raise UserError(
                    f"a real-time factor of {target:g} cannot be reached: one step of each token "
                    f"takes {fastest:.3g} here"
                )
            best = high, fastest
            for _ in range(HALVINGS):
                bias = (low + high) / 2
                factor = factor_at(bias)
                low, high = (bias, high) if factor > target else (low, bias)
                if factor <= target:
                    best = bias, factor
                if high - low < CLOSE or target * (1 - CLOSE) <= factor <= target:
                    break
        halting.bias = best[0]
        return Setting(best[0], depth_spread(_trace(separator, mixture)), best[1])


def has_recurrence(separator: Separator) -> bool:
    """True if the masknet of a separator is a Papez, whose depth can be set."""
    return hasattr(getattr(separator.masknet, "transformer", None), "halting")


def _halting(separator):
    """The halting of a separator that has a recurrence."""
    if not has_recurrence(separator):
        name = type(separator.masknet).__name__
        raise UserError(f"{name} has no recurrence: only a Papez's depth can be set")
    return separator.masknet.transformer.halting


def _batches(mixtures):
    """Mixtures as a list of [B, T]."""
    mixtures = [mixtures] if torch.is_tensor(mixtures) else list(mixtures)
    return [mixture if mixture.dim() == 2 else mixture.unsqueeze(0) for mixture in mixtures]


def _trace(separator, mixture):
    """The trace of separating a mixture [B, T]."""
    with torch.inference_mode():
        return separator(mixture, return_trace=True)[1]


@contextmanager
def _restored_on_failure(halting):
    """Restore the halting bias if an exception is raised."""
    before = halting.bias
    try:
        yield
    except BaseException:
        halting.bias = before
        raise


def median_seconds(separator: Separator, mixture: torch.Tensor) -> float:
    """Median time of separating a mixture [B, T], in seconds."""
    times = []
    for _ in range(1 + TIMED_RUNS):
        started = time.perf_counter()
        _trace(separator, mixture)
        synchronize(mixture.device)
        times.append(time.perf_counter() - started)
    return sorted(times[1:])[TIMED_RUNS // 2]
