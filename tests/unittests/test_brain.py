"""Training: a batch is the mean of its items; the step changes what it should."""

import logging

import pytest
import speechbrain as sb
import torch
from speechbrain.dataio.batch import PaddedBatch

from papez_lobes.errors import UserError
from papez_lobes.separator import separate
from papez_lobes.training.brain import Separation
from papez_lobes.training.losses import pit_si_snr_loss


def item(name, samples, speakers=2):
    torch.manual_seed(samples)
    sources = torch.randn(samples, speakers)
    return {"id": name, "mix_sig": sources.sum(-1), "sources": sources}


def make_brain(modules, ponder_cost=0.0):
    logging.getLogger("speechbrain").setLevel(logging.WARNING)
    hparams = {"loss": pit_si_snr_loss, "save_audio": 0, "ponder_cost": ponder_cost,
               "loss_threshold": None, "warmup_steps": 0, "seed": 0, "sample_rate": 8000}
    brain = Separation(modules, None, hparams, {"device": "cpu"})
    brain.on_stage_start(sb.Stage.TRAIN)
    return brain


def loss_and_gradients(brain, items):
    brain.modules.zero_grad()
    batch = PaddedBatch(items)
    predictions = brain.compute_forward(batch, sb.Stage.TRAIN)
    loss = brain.compute_objectives(predictions, batch, sb.Stage.TRAIN)
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in brain.modules.named_parameters()}
    return loss.detach(), gradients


@pytest.mark.parametrize("name", ["papez", "papez_official", "papez_small"])
@pytest.mark.parametrize("speakers", [2, 3])
def test_a_padded_batch_of_three_is_the_mean_of_the_three_alone(tiny, name, speakers):
    modules, _ = tiny(name, num_spks=speakers, halting_bias=-1.0)
    brain = make_brain(modules.float().train())
    items = [item("a", 400, speakers), item("b", 237, speakers), item("c", 90, speakers)]
    loss, gradients = loss_and_gradients(brain, items)
    alone = [loss_and_gradients(brain, [one]) for one in items]
    torch.testing.assert_close(loss, sum(each for each, _ in alone) / 3, atol=1e-5, rtol=1e-5)
    scale = max(gradient.abs().max() for gradient in gradients.values())
    for key, gradient in gradients.items():
        expected = sum(each[key] for _, each in alone) / 3
        assert (gradient - expected).abs().max() <= 1e-5 * scale, key


def test_scores_are_kept_of_each_item_and_only_outside_training(tiny):
    modules, _ = tiny()
    brain = make_brain(modules.float().eval())
    batch = PaddedBatch([item("a", 400), item("b", 200)])
    brain.compute_objectives(brain.compute_forward(batch, sb.Stage.TRAIN), batch, sb.Stage.TRAIN)
    assert brain.rows == [] and len(brain.depths) == 1
    loss = brain.compute_objectives(
        brain.compute_forward(batch, sb.Stage.VALID), batch, sb.Stage.VALID
    )
    assert [row["snt_id"] for row in brain.rows] == ["a", "b"]
    mean = sum(row["si_snr"] for row in brain.rows) / 2
    assert loss.item() == pytest.approx(-mean, abs=1e-4)
    assert brain.rows[0]["si_snr"] == pytest.approx(
        (brain.rows[0]["si_snr_s1"] + brain.rows[0]["si_snr_s2"]) / 2
    )


def test_ponder_cost_adds_the_mean_expected_depth_of_each_item(tiny):
    modules, _ = tiny(halting_bias=-1.0)
    items = [item("a", 400), item("b", 237)]
    plain, _ = loss_and_gradients(make_brain(modules.float()), items)
    costly, gradients = loss_and_gradients(make_brain(modules, ponder_cost=0.5), items)
    alone = []
    for each in items:
        _, trace = separate(modules, each["mix_sig"][None], return_trace=True)
        alone.append(trace.expected_depth.mean())
    torch.testing.assert_close(costly - plain, 0.5 * sum(alone) / 2, atol=1e-5, rtol=1e-4)
    assert any(g.abs().sum() > 0 for g in gradients.values())


def test_ponder_cost_makes_it_shallower(tiny):
    """A few steps on the cost alone: the depth falls, so its gradient points the right way."""
    modules, _ = tiny(halting_bias=-2.0)
    mixture = torch.randn(2, 600).double()
    optimizer = torch.optim.Adam(modules.parameters(), lr=0.01)
    depths = []
    for _ in range(30):
        _, trace = separate(modules, mixture, return_trace=True)
        depths.append(trace.mean_depth.item())
        optimizer.zero_grad()
        trace.ponder.mean().backward()
        optimizer.step()
    assert depths[-1] < depths[0] - 0.5


def test_ponder_cost_needs_a_recurrence(tiny):
    modules, _ = tiny()
    brain = make_brain(modules.float(), ponder_cost=0.5)
    batch = PaddedBatch([item("a", 400)])
    estimates, _ = brain.compute_forward(batch, sb.Stage.TRAIN)
    with pytest.raises(UserError, match="ponder_cost"):
        brain.compute_objectives((estimates, None), batch, sb.Stage.TRAIN)
