"""Learning rate schedules that SpeechBrain lacks."""


class ExponentialScheduler:
    """Multiply the learning rate by a factor after each epoch (0.99 in the authors' training).

    Called as SpeechBrain's `LinearScheduler` is. (Its `StepScheduler` with a drop at each epoch
    begins two factors too low.)

    Example
    -------
    >>> ExponentialScheduler(0.1, 0.5)(1)
    (0.1, 0.05)
    """

    def __init__(self, initial_value: float, factor: float):
        self.initial_value = initial_value
        self.factor = factor

    def __call__(self, current_epoch: int) -> tuple[float, float]:
        """The learning rates of an epoch (from 1) that ended, and of the next one."""
        current = self.initial_value * self.factor ** (current_epoch - 1)
        return current, current * self.factor


class WarmupDecay:
    """Scale the learning rate of each step: a linear warm-up, then constant, then a linear decay.

    The rate rises over `warmup_steps` optimizer steps. The decay ends at zero, and so does the
    training. It is counted in hours of audio trained on, so that it does not depend on the length
    of epochs. There are three uses:

    - `train_hours` alone: train for so many hours at a constant rate.
    - `train_hours` and `decay_hours`: the rate falls over the last `decay_hours` of them.
    - `decay_hours` alone: the rate falls from the beginning of training, or from a checkpoint of a
      training without decay. Thus a training at a constant rate (a trunk) can have branches that
      decay, for any budget.

    Example
    -------
    >>> schedule = WarmupDecay(warmup_steps=2, train_hours=10.0, decay_hours=5.0)
    >>> [schedule.share(step, hours, 0.0) for step, hours in ((0, 0.0), (9, 4.0), (99, 9.0))]
    [0.5, 1.0, 0.2]
    >>> branch = WarmupDecay(decay_hours=5.0)
    >>> [branch.share(99, hours, decay_start=70.0) for hours in (70.0, 74.0, 75.0)]
    [1.0, 0.2, 0.0]
    """

    def __init__(self, warmup_steps: int = 0, train_hours: float | None = None,
                 decay_hours: float | None = None):
        if None not in (train_hours, decay_hours) and decay_hours > train_hours:
            raise ValueError(f"decay_hours is {decay_hours}: it must be at most train_hours, "
                             f"{train_hours}")
        self.warmup_steps = warmup_steps
        self.train_hours = train_hours
        self.decay_hours = decay_hours

    def end(self, decay_start: float) -> float | None:
        """Hours of audio after which training ends, or None.

        `decay_start` are the hours at which the decay began; only used without `train_hours`.
        """
        if self.train_hours is not None or self.decay_hours is None:
            return self.train_hours
        return decay_start + self.decay_hours

    def share(self, step: int, hours: float, decay_start: float) -> float:
        """The factor of the learning rate, in [0, 1], after so many steps and hours of audio."""
        share = min(1.0, (step + 1) / max(1, self.warmup_steps))
        if self.decay_hours:
            share *= min(1.0, max(0.0, (self.end(decay_start) - hours) / self.decay_hours))
        return share
