"""The optimizer: against torch's own Muon and AdamW, and through a checkpoint."""

import copy

import pytest
import torch
from torch import nn

from papez_lobes.errors import UserError
from papez_lobes.training.muon import MuonAdamW, orthogonalise


def model_of(seed=0):
    torch.manual_seed(seed)
    return nn.ModuleDict({
        "a": nn.Sequential(nn.Linear(8, 24), nn.LayerNorm(24), nn.Linear(24, 6)),
        "b": nn.Conv1d(6, 5, 1), "c": nn.Embedding(3, 6),  # a table is a matrix, but not a map
    })


def optimizer_of(model, **options):
    return MuonAdamW(model.parameters(), model, lr=0.02, weight_decay=0.1, **options)


def learn(model, *optimizers, steps=5, seed=1):
    draw = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        hidden = model["a"](torch.randn(16, 8, generator=draw)) + model["c"].weight[1]
        loss = model["b"](hidden.T).square().mean()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        model.zero_grad(set_to_none=True)


@pytest.mark.parametrize("shape", [(128, 64), (256, 32), (16, 200)])
def test_singular_values_become_alike(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(3)) * 7
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    result = orthogonalise(matrix)
    aligned = torch.diagonal(u.T @ result @ v.T)
    assert 0.3 < aligned.min() and aligned.max() < 1.3
    assert torch.linalg.svdvals(orthogonalise(result)).min() > 0.6
    assert orthogonalise(torch.zeros(shape)).abs().max() == 0


def test_steps_are_those_of_torchs_muon_and_adamw():
    ours, theirs = model_of(), model_of()
    learn(ours, optimizer_of(ours))
    matrices = [theirs["a"][0].weight, theirs["a"][2].weight]
    chosen = {id(matrix) for matrix in matrices}
    others = [p for p in theirs.parameters() if id(p) not in chosen]
    learn(theirs, torch.optim.Muon(matrices, lr=0.02, weight_decay=0.1,
                                   adjust_lr_fn="match_rms_adamw"),
          torch.optim.AdamW(others, lr=0.02, weight_decay=0.1))
    begun = model_of().state_dict()
    for name, value in theirs.state_dict().items():
        moved = (value - begun[name]).norm()
        difference = (ours.state_dict()[name] - value).norm()
        assert moved > 0.01 and difference < 0.1 * moved, name  # theirs rounds to bfloat16


def test_without_matrices_it_is_adamw():
    ours, theirs = model_of(), model_of()
    learn(ours, MuonAdamW(ours.parameters(), {}, lr=0.02, weight_decay=0.1))
    learn(theirs, torch.optim.AdamW(theirs.parameters(), lr=0.02, weight_decay=0.1))
    for one, other in zip(ours.parameters(), theirs.parameters()):
        assert torch.equal(one, other)


def test_goes_on_from_its_state():
    whole, half = model_of(), model_of()
    optimizer = optimizer_of(whole)
    learn(whole, optimizer, seed=1)
    learn(whole, optimizer, seed=2)
    first = optimizer_of(half)
    learn(half, first, seed=1)
    second = optimizer_of(half, momentum=0.1)  # the state says otherwise
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    learn(half, second, seed=2)
    for one, other in zip(whole.parameters(), half.parameters()):
        assert torch.equal(one, other)


def test_a_learning_rate_of_zero_for_all_groups_moves_nothing():
    model = model_of()
    optimizer = optimizer_of(model)
    for group in optimizer.param_groups:  # as SpeechBrain's schedulers do
        group["lr"] = 0.0
    learn(model, optimizer)
    for one, other in zip(model.parameters(), model_of().parameters()):
        assert torch.equal(one, other)


def test_does_not_go_on_from_another_optimizers_state():
    model = model_of()
    other = torch.optim.AdamW(model.parameters())
    with pytest.raises(UserError, match="another optimizer"):
        optimizer_of(model).load_state_dict(other.state_dict())
