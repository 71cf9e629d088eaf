"""The dial: how much is computed, chosen at inference, from one checkpoint.

Three settings need no search and are YAML knobs too: `halting_threshold`, `max_depth` and
`halting_bias`. Here the bias is searched for, so that a budget is met on given speech: a mean
depth, or a real-time factor to stay under.
"""

import time
from dataclasses import dataclass

import torch

from papez_lobes.devices import synchronize
from papez_lobes.errors import UserError

LOWEST, HIGHEST = -30.0, 30.0  # biases that no logit outweighs: every step, and one step
CLOSE = 0.01  # steps of mean depth, or 1 % of a real-time factor, that are not worth a search
HALVINGS = 30  # of the bracket: far below what can change a sum of probabilities
TIMED_RUNS = 3  # of each setting that is timed, after one that is not


@dataclass(frozen=True)
class DepthSpread:
    """How the depths of the tokens are spread, in steps.

    Arguments
    ---------
    mean, sd : float
        Mean and standard deviation.
    quantiles : dict of float to float
        Share of the tokens to the depth that they do not exceed.
    """

    mean: float
    sd: float
    quantiles: dict


@dataclass(frozen=True)
class Setting:
    """What a budget came to.

    Arguments
    ---------
    bias : float
        The halting bias that is now set.
    spread : DepthSpread
        Of the depths on the given speech.
    real_time_factor : float or None
        Measured, where the budget was one.
    """

    bias: float
    spread: DepthSpread
    real_time_factor: float | None = None


def depth_spread(*traces, quantiles=(0.1, 0.5, 0.9)):
    """The spread of the depths of all valid tokens.

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
    >>> spread = depth_spread(Trace(depth, depth > 0, None, 0), quantiles=[0.5])
    >>> round(spread.mean, 2), round(spread.sd, 2), spread.quantiles
    (2.67, 0.94, {0.5: 2.0})
    """
    depths = torch.cat([trace.depth[trace.valid] for trace in traces]).double()
    # the smallest depth that at least that share of the tokens does not exceed
    cut = {share: depths.quantile(share, interpolation="higher").item() for share in quantiles}
    return DepthSpread(depths.mean().item(), depths.std(correction=0).item(), cut)


def set_mean_depth(separator, mixtures, target):
    """Set the halting bias so that the mean depth on given speech is the target.

    The depth is a step function of the bias: tokens that are alike halt together. What comes
    closest is set and reported; on seconds of speech that is within 0.01 of the target.

    Arguments
    ---------
    separator : papez_lobes.separator.Separator
        In eval mode, with a Papez as its masknet.
    mixtures : torch.Tensor or iterable of torch.Tensor
        [B, T], or several [T] or [B, T]. All tokens count alike.
    target : float
        Steps, 1 to the `max_depth` of the separator.

    Returns
    -------
    Setting

    Raises
    ------
    UserError
        If the separator has no recurrence, or no bias reaches the target. The bias is then what
        it was.
    """
    halting, mixtures = _halting(separator), _batches(mixtures)

    def spread_at(bias):
        halting.bias = bias
        return depth_spread(*[_trace(separator, mixture) for mixture in mixtures])

    with _restored_on_failure(halting):
        least, most = _outermost(separator, spread_at(HIGHEST).mean, spread_at(LOWEST).mean, target)
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


def set_real_time_factor(separator, mixture, target, sample_rate, measure=None):
    """Keep to a real-time factor, measured here: where the separator as it is takes longer, raise
    the halting bias until they do not, as little as that needs.

    They never become deeper than they are: steps that training did not choose can cost decibels
    as well as time. The clock is this machine's, with its load of now, number of threads and
    device: leave a margin where the load may grow.

    Arguments
    ---------
    separator : papez_lobes.separator.Separator
        As `set_mean_depth`.
    mixture : torch.Tensor
        [B, T]; B counts as B recordings.
    target : float
        Seconds of computing per second of audio, above 0.
    sample_rate : int
        Hz, the separator's.
    measure : callable, optional
        Called without arguments to time the separator as it is set: seconds. For clocks of
        one's own; default: the median of three runs.

    Returns
    -------
    Setting
        With the real-time factor that was measured.

    Raises
    ------
    UserError
        If the separator has no recurrence, or a single step is already slower than the target.
        The bias is then what it was.
    """
    halting = _halting(separator)
    if not target > 0:
        raise UserError(f"a real-time factor of {target:g}: it must be above 0")
    seconds = mixture.numel() / sample_rate
    measure = measure or (lambda: _median_seconds(separator, mixture))

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


def has_recurrence(separator):
    """Whether a separator's masknet is a Papez, whose depth can be set."""
    return hasattr(getattr(separator.masknet, "transformer", None), "halting")


def _halting(separator):
    if not has_recurrence(separator):
        name = type(separator.masknet).__name__
        raise UserError(f"{name} has no recurrence: only a Papez's depth can be set")
    return separator.masknet.transformer.halting


def _batches(mixtures):
    mixtures = [mixtures] if torch.is_tensor(mixtures) else list(mixtures)
    return [mixture if mixture.dim() == 2 else mixture.unsqueeze(0) for mixture in mixtures]


def _trace(separator, mixture):
    with torch.inference_mode():
        return separator(mixture, return_trace=True)[1]


def _outermost(separator, least, most, target):
    """The depths that the outermost biases give, if the target is between them."""
    if not least - CLOSE <= target <= most + CLOSE:
        raise UserError(
            f"a mean depth of {target:g} cannot be reached: the mean is between {least:.2f} and "
            f"{most:.2f} steps on this speech, at the model's threshold and max_depth"
        )
    return least, most


class _restored_on_failure:
    """The halting bias is what it was, should the block raise anything."""

    def __init__(self, halting):
        self.halting, self.before = halting, halting.bias

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if kind is not None:
            self.halting.bias = self.before


def _median_seconds(separator, mixture):
    times = []
    for _ in range(1 + TIMED_RUNS):
        started = time.perf_counter()
        _trace(separator, mixture)
        synchronize(mixture.device)
        times.append(time.perf_counter() - started)
    return sorted(times[1:])[TIMED_RUNS // 2]
