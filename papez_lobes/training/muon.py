"""Muon for matrices and AdamW for the rest, as one optimizer."""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import nn

from papez_lobes.devices import has_products_in

QUINTIC = (3.4445, -4.7750, 2.0315)  # Jordan's coefficients, steepest at zero
ITERATIONS = 5
EPS = 1e-7


def orthogonalise(matrix: torch.Tensor) -> torch.Tensor:
    """Bring the singular values of a matrix near to 1, most to between 0.7 and 1.2.

    Five Newton-Schulz iterations. They are computed in bfloat16 where the processor has
    instructions for it, and in the precision of the matrix elsewhere. (`torch.optim.Muon` always
    takes bfloat16, which is many times slower on a processor that emulates it.)
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp(min=EPS)
    if matrix.dtype == torch.float32 and has_products_in(torch.bfloat16, matrix.device):
        x = x.bfloat16()
    a, b, c = QUINTIC
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.T if tall else x).to(matrix.dtype)


class MuonAdamW(torch.optim.Optimizer):
    """Muon for the weights of linear maps, AdamW for all else, at one learning rate.

    Muon (K. Jordan et al., 2024) makes the momentum of a matrix's gradient orthogonal before each
    step, so that rare directions are learned too. Its steps are scaled to the size of AdamW's (J.
    Liu et al., "Muon is Scalable for LLM Training", 2025, Sec. 2.2), so that learning rates and
    schedules of AdamW fit. The groups of parameters are kept as given, so that clipping and
    schedulers reach all of them.

    Arguments
    ---------
    params : iterable of torch.nn.Parameter or of dict
        All trained parameters, or groups of them.
    modules : mapping of str to torch.nn.Module
        Modules whose `torch.nn.Linear` weights are trained with Muon.
    lr, weight_decay, momentum : float
        Learning rate and weight decay of both, and the momentum of Muon.

    Example
    -------
    >>> model = nn.ModuleDict({"map": nn.Linear(4, 2), "norm": nn.LayerNorm(2)})
    >>> optimizer = MuonAdamW(model.parameters(), model, lr=0.01)
    >>> model["norm"](model["map"](torch.randn(3, 4)))[:, 0].sum().backward()
    >>> optimizer.step()
    >>> [sorted(optimizer.state[p])[0] for p in model.parameters()]
    ['momentum_buffer', 'exp_avg', 'exp_avg', 'exp_avg']
    """

    def __init__(
        self, params: Iterable, modules: Mapping[str, nn.Module], lr: float,
        weight_decay: float = 0.01, momentum: float = 0.95,
    ):
        layers = (layer for module in modules.values() for layer in module.modules())
        self.matrices = {id(layer.weight) for layer in layers if isinstance(layer, nn.Linear)}
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        self.adamw = torch.optim.AdamW([
            {"params": [p for p in group["params"] if id(p) not in self.matrices]}
            for group in self.param_groups
        ])
        self.adamw.state = self.state

    def load_state_dict(self, state_dict: dict) -> None:
        """Like `torch.optim.Optimizer.load_state_dict`."""
        super().load_state_dict(state_dict)
        self.adamw.state = self.state  # loading has made a new one

    @torch.no_grad()
    def step(self, closure: Callable | None = None):
        """Take a step; parameters without a gradient stay as they are."""
        for group, rest in zip(self.param_groups, self.adamw.param_groups):
            rest.update(lr=group["lr"], weight_decay=group["weight_decay"])
        loss = self.adamw.step(closure)
        for group in self.param_groups:
            for matrix in group["params"]:
                if id(matrix) in self.matrices and matrix.grad is not None:
                    self._step(matrix, group)
        return loss

    def _step(self, matrix, group):
        state, gradient = self.state[matrix], matrix.grad
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        momentum = state["momentum_buffer"].lerp_(gradient, 1 - group["momentum"])
        step = orthogonalise(gradient.lerp(momentum, group["momentum"]))  # Nesterov's
        scale = 0.2 * max(matrix.shape) ** 0.5
        matrix.mul_(1 - group["lr"] * group["weight_decay"])
        matrix.add_(step, alpha=-group["lr"] * scale)
