"""An optimizer that learns more from an hour of audio than AdamW does."""

import torch
from torch import nn

from papez_lobes.errors import UserError

QUINTIC = (3.4445, -4.7750, 2.0315)  # Jordan's coefficients, steepest at zero
ITERATIONS = 5
EPS = 1e-7


def orthogonalise(matrix):
    """A matrix's nearest one whose singular values are 1; roughly: they come to 0.7 to 1.2.

    Newton-Schulz iterations in the precision of the matrix. (`torch.optim.Muon` takes bfloat16
    for them whatever it is given, which a CPU that must emulate it does thirty times as slowly.)

    Arguments
    ---------
    matrix : torch.Tensor
        [A, B].

    Example
    -------
    >>> values = torch.linalg.svdvals(orthogonalise(torch.diag(torch.tensor([9.0, 1.0, 0.3]))))
    >>> bool(0.6 < values.min() <= values.max() < 1.3)
    True
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp(min=EPS)
    a, b, c = QUINTIC
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


class MuonAdamW(torch.optim.Optimizer):
    """Muon for the weights of linear maps, AdamW for all else, at one learning rate.

    Muon (K. Jordan et al., 2024) makes the momentum of a matrix's gradient orthogonal before it is
    taken as a step, so that directions which are seldom seen are learned too. Its steps are scaled
    to be as large as AdamW's (J. Liu et al., "Muon is Scalable for LLM Training", 2025, Sec.
    2.2): learning rates and schedules of AdamW hold.

    Arguments
    ---------
    params : iterable of torch.nn.Parameter
        All that is trained.
    modules : mapping of str to torch.nn.Module
        Whose `torch.nn.Linear` layers have the matrices.
    lr, weight_decay : float
        Of both.
    momentum : float
        Muon's.

    Example
    -------
    >>> model = nn.ModuleDict({"map": nn.Linear(4, 2), "norm": nn.LayerNorm(2)})
    >>> optimizer = MuonAdamW(model.parameters(), model, lr=0.01)
    >>> [len(group["params"]) for group in optimizer.param_groups]
    [1, 3]
    >>> model["norm"](model["map"](torch.randn(3, 4)))[:, 0].sum().backward()
    >>> optimizer.step()
    """

    def __init__(self, params, modules, lr, weight_decay=0.01, momentum=0.95):
        layers = (layer for module in modules.values() for layer in module.modules())
        chosen = {id(layer.weight) for layer in layers if isinstance(layer, nn.Linear)}
        params = list(params)
        self.adamw = torch.optim.AdamW(
            [p for p in params if id(p) not in chosen], lr=lr, weight_decay=weight_decay
        )
        matrices = {"params": [p for p in params if id(p) in chosen], "momentum": momentum}
        super().__init__([matrices], {"lr": lr, "weight_decay": weight_decay})
        self.param_groups += self.adamw.param_groups
        self._share()

    def _share(self):
        """One state and one list of groups, of which the first is Muon's."""
        self.adamw.state, self.adamw.param_groups = self.state, self.param_groups[1:]

    def load_state_dict(self, state_dict):
        """As every optimizer's; that of another optimizer is a `UserError`."""
        if _sizes(state_dict) != _sizes(self.state_dict()):
            raise UserError(
                "the checkpoint is of a training with another optimizer: go on with that one "
                "(`optimizer` in the experiment file), or begin a new output_folder with "
                "--start_from and the bundle of the old one"
            )
        super().load_state_dict(state_dict)

    def __setstate__(self, state):
        super().__setstate__(state)  # which `load_state_dict` calls: both are new
        self._share()

    @torch.no_grad()
    def step(self, closure=None):
        """One step of both, from the gradients that there are."""
        loss = self.adamw.step(closure)
        group = self.param_groups[0]
        for matrix in group["params"]:
            if matrix.grad is not None:
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


def _sizes(state_dict):
    """How many parameters each group has."""
    return [len(group["params"]) for group in state_dict["param_groups"]]
