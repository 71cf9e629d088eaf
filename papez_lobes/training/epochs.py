"""Epoch counter with a time limit."""

import time

from speechbrain.utils.checkpoints import mark_as_loader, mark_as_saver, register_checkpoint_hooks
from speechbrain.utils.distributed import ddp_broadcast
from speechbrain.utils.epoch_loop import EpochCounter


@register_checkpoint_hooks
class TimedEpochCounter(EpochCounter):
    """SpeechBrain's epoch counter with a time limit: the epoch that exceeds it is the last one.

    No further epoch begins after `minutes`; None: no limit. Checkpoints hold the time spent, so a
    resumed training goes on with the time that is left.

    Example
    -------
    >>> [epoch for epoch in TimedEpochCounter(3)]
    [1, 2, 3]
    >>> [epoch for epoch in TimedEpochCounter(3, minutes=0.0)]
    []
    """

    def __init__(self, limit: int, minutes: float | None = None):
        super().__init__(limit)
        self.minutes = minutes
        self._before = 0.0  # seconds of earlier runs
        self._started = None

    @property
    def seconds(self) -> float:
        """Seconds spent so far, including earlier runs."""
        return self._before + (time.monotonic() - self._started if self._started else 0.0)

    def __next__(self):
        if self._started is None:
            self._started = time.monotonic()
        # all processes use the main one's clock, so that they begin the same epochs
        if self.minutes is not None and ddp_broadcast(self.seconds) >= 60 * self.minutes:
            raise StopIteration
        return super().__next__()

    @mark_as_saver
    def _save(self, path):
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(f"{self.current} {self.seconds:.3f}")

    @mark_as_loader
    def _recover(self, path, end_of_epoch=True):
        with open(path, encoding="utf-8") as stream:
            epoch, seconds = stream.read().split()
        self.current = int(epoch) - (0 if end_of_epoch else 1)
        self._before = float(seconds)
