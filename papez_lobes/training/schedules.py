"""Learning rate schedules that SpeechBrain lacks."""


class ExponentialScheduler:
    """The learning rate times a factor after each epoch (the authors' training on WSJ0-mix).

    Called as SpeechBrain's `LinearScheduler` is. (Its `StepScheduler` with a drop at each epoch
    begins two factors too low.)

    Arguments
    ---------
    initial_value : float
        Learning rate of the first epoch.
    factor : float
        0.99 in the authors' training.

    Example
    -------
    >>> ExponentialScheduler(0.1, 0.5)(1)
    (0.1, 0.05)
    """

    def __init__(self, initial_value, factor):
        self.initial_value = initial_value
        self.factor = factor

    def __call__(self, current_epoch):
        """The rates of the epoch that ended (1-based) and of the next one."""
        current = self.initial_value * self.factor ** (current_epoch - 1)
        return current, current * self.factor
