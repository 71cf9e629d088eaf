"""A running mean of the weights, which is validated, kept and bundled in their place."""

import torch
from speechbrain.utils.checkpoints import mark_as_loader, mark_as_saver, register_checkpoint_hooks


@register_checkpoint_hooks
class WeightAverage:
    """An exponential moving average (EMA) of the weights over the optimizer's steps.

    One of the two sets of weights is in the modules, the other is kept here: `put(True)` has the
    average in the modules, `put(False)` the weights that are trained. A checkpoint written in
    between holds both, so that its modules are what was validated, and training resumes exactly.

    Arguments
    ---------
    modules : mapping of str to torch.nn.Module
        Whose parameters are averaged.
    decay : float
        In [0, 1): the share of the old average at each step; 0: none is made. Over the first
        steps it is less, (1 + n) / (10 + n) at most, lest the initial weights stay in it.

    Example
    -------
    >>> linear = torch.nn.Linear(1, 1, bias=False)
    >>> average = WeightAverage({"linear": linear}, decay=0.5)
    >>> for value in (8.0, 4.0, 2.0):
    ...     _ = torch.nn.init.constant_(linear.weight, value)
    ...     average.update()
    >>> average.put(True)
    >>> 2.0 < linear.weight.item() < 4.0
    True
    >>> average.put(False)
    >>> linear.weight.item()
    2.0
    """

    def __init__(self, modules, decay=0.0):
        self.modules, self.decay = modules, decay
        self.steps, self.averaged = 0, False  # averaged: whether the average is in the modules
        self.others = []

    def update(self):
        """Take the weights after a step into the average."""
        if not self.decay:
            return
        weights = self._weights()
        if not self.others:
            self.others = [weight.clone() for weight in weights]
        share = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.others, weights, 1 - share)
        self.steps += 1

    def put(self, averaged):
        """Exchange the two sets of weights, if the wanted one is not in the modules. Without a
        decay the average that a checkpoint brought gives way to the trained weights for good."""
        if self.others and averaged != self.averaged:
            for weight, other in zip(self._weights(), self.others):
                kept = weight.clone()
                weight.copy_(other)
                other.copy_(kept)
            self.averaged = averaged
        if not self.decay and not self.averaged:
            self.others, self.steps = [], 0  # training had one, and goes on without

    def _weights(self):
        """The parameters as tensors without a graph, which share their memory."""
        return [weight.detach() for part in self.modules.values() for weight in part.parameters()]

    @mark_as_saver
    def _save(self, path):
        state = {"steps": self.steps, "averaged": self.averaged, "others": self.others}
        torch.save(state, path)

    @mark_as_loader
    def _recover(self, path, end_of_epoch=True):
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.steps, self.averaged = state["steps"], state["averaged"]
        self.others = [
            other.to(weight.device) for other, weight in zip(state["others"], self._weights())
        ]
