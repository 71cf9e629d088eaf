"""The optimizer: against torch's own Muon and AdamW, and through a checkpoint."""

import copy

import pytest
import torch
from torch import nn

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


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has it from 2.9 on")
@pytest.mark.parametrize("momentum", [0.95, 0.5])
def test_steps_are_those_of_torchs_muon_and_adamw(momentum):
    ours, theirs = model_of(), model_of()
    learn(ours, optimizer_of(ours, momentum=momentum))
    matrices = [theirs["a"][0].weight, theirs["a"][2].weight]
    chosen = {id(matrix) for matrix in matrices}
    others = [p for p in theirs.parameters() if id(p) not in chosen]
    learn(theirs, torch.optim.Muon(matrices, lr=0.02, weight_decay=0.1, momentum=momentum,
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


def test_it_goes_on_from_its_state():
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


def test_groups_stay_as_they_are_given():
    model = model_of()
    vectors = [p for p in model.parameters() if p.dim() < 2]
    others = [p for p in model.parameters() if p.dim() > 1]
    groups = [{"params": others}, {"params": vectors, "weight_decay": 0.0}]  # as SpeechBrain's
    optimizer = MuonAdamW(groups, model, lr=0.02, weight_decay=0.1)
    assert [len(group["params"]) for group in optimizer.param_groups] == [len(others), len(vectors)]
    plain = model_of()
    learn(model, optimizer, steps=1)
    learn(plain, MuonAdamW(plain.parameters(), plain, lr=0.02, weight_decay=0.0), steps=1)
    for one, other in zip(model.parameters(), plain.parameters()):
        assert torch.equal(one, other) == (one.dim() < 2)


def test_what_has_no_gradient_stays_and_the_loss_is_returned():
    model = nn.ModuleDict({"used": nn.Linear(3, 3, bias=False), "idle": nn.Linear(3, 3)})
    before, optimizer = copy.deepcopy(model.state_dict()), optimizer_of(model)

    def closure():
        loss = model["used"](torch.ones(1, 3)).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == pytest.approx(before["used.weight"].sum().item())
    assert torch.equal(model["idle"].weight, before["idle.weight"])
    assert not torch.equal(model["used"].weight, before["used.weight"])
