"""An exponential moving average (EMA) of the weights."""

from collections.abc import Mapping
from pathlib import Path

import torch
from speechbrain.utils.checkpoints import mark_as_loader, mark_as_saver, register_checkpoint_hooks
from torch import nn


@register_checkpoint_hooks
class WeightAverage:
    """An exponential moving average (EMA) of the weights over the optimizer's steps.

    The modules hold one of two sets of weights, and this object keeps the other. `swap_in` puts the
    average into the modules, `swap_out` puts the trained weights back. Checkpoints hold both: their
    modules are the averaged weights, which were validated, and training resumes exactly.

    Arguments
    ---------
    modules : mapping of str to torch.nn.Module
        Modules whose parameters are averaged.
    decay : float
        Weight of the old average at each step, in [0, 1). 0: no average is kept. At step n it is at
        most (1 + n) / (10 + n), so that the initial weights do not stay in the average.

    Example
    -------
    >>> linear = torch.nn.Linear(1, 1, bias=False)
    >>> average = WeightAverage({"linear": linear}, decay=0.5)
    >>> for value in (8.0, 4.0, 2.0):
    ...     _ = torch.nn.init.constant_(linear.weight, value)
    ...     average.update()
    >>> average.swap_in()
    >>> 2.0 < linear.weight.item() < 4.0
    True
    >>> average.swap_out()
    >>> linear.weight.item()
    2.0
    """

    def __init__(self, modules: Mapping[str, nn.Module], decay: float = 0.0):
        self.modules = modules
        self.decay = decay
        self.steps = 0
        self.averaged = False  # True while the average is in the modules
        self.others = []  # the weights that are not in the modules

    def update(self) -> None:
        """Add the weights after a step to the average."""
        if not self.decay:
            return
        weights = self._weights()
        if not self.others:
            self.others = [weight.clone() for weight in weights]
        share = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.others, weights, 1 - share)
        self.steps += 1

    def swap_in(self) -> None:
        """Put the average into the modules."""
        self._set(True)

    def swap_out(self) -> None:
        """Put the trained weights back into the modules."""
        self._set(False)

    def _set(self, averaged):
        if self.others and averaged != self.averaged:
            for weight, other in zip(self._weights(), self.others):
                kept = weight.clone()
                weight.copy_(other)
                other.copy_(kept)
            self.averaged = averaged
        if not self.decay and not self.averaged:
            # the checkpoint had an average, and training goes on without one
            self.others, self.steps = [], 0

    def _weights(self):
        """The parameters as tensors without a graph, which share their memory."""
        return [weight.detach() for part in self.modules.values() for weight in part.parameters()]

    @mark_as_saver
    def _save(self, path: Path):
        state = {"steps": self.steps, "averaged": self.averaged, "others": self.others}
        torch.save(state, path)

    @mark_as_loader
    def _recover(self, path: Path, end_of_epoch: bool = True):
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.steps, self.averaged = state["steps"], state["averaged"]
        self.others = [
            other.to(weight.device) for other, weight in zip(state["others"], self._weights())
        ]
