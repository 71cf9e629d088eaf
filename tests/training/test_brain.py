"""Training: a batch is the mean of its items; the step changes what it should."""

import logging
from functools import partialmethod

import pytest
import speechbrain as sb
import torch
from speechbrain.dataio.batch import PaddedBatch
from torch._dynamo.utils import counters

from papez_lobes.errors import UserError
from papez_lobes.training.averaging import WeightAverage
from papez_lobes.training.brain import Separation
from papez_lobes.training.losses import score
from papez_lobes.training.schedules import ExponentialScheduler, WarmupDecay
from tests.trainings import Items, brain_hparams, item, prepare
from tests.trainings import fit as fit_all


def make_brain(separator, ponder_cost=0.0):
    logging.getLogger("speechbrain").setLevel(logging.WARNING)
    hparams = brain_hparams(separator.parts, ponder_cost=ponder_cost)
    brain = Separation({"separator": separator}, None, hparams, {"device": "cpu"})
    brain.on_stage_start(sb.Stage.TEST)
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
    separator, _ = tiny(name, num_spks=speakers, halting_bias=-1.0)
    brain = make_brain(separator.float().train())
    items = [item("a", 400, speakers), item("b", 237, speakers), item("c", 90, speakers)]
    loss, gradients = loss_and_gradients(brain, items)
    alone = [loss_and_gradients(brain, [one]) for one in items]
    torch.testing.assert_close(loss, sum(each for each, _ in alone) / 3, atol=1e-5, rtol=1e-5)
    scale = max(gradient.abs().max() for gradient in gradients.values())
    for key, gradient in gradients.items():
        expected = sum(each[key] for _, each in alone) / 3
        assert (gradient - expected).abs().max() <= 1e-5 * scale, key


def scores_of(brain, batch):
    """SI-SNR of the first item's sources."""
    estimates, _ = brain.compute_forward(batch, sb.Stage.VALID)
    mixture, lengths = batch.mix_sig
    return score(estimates, batch.sources.data, mixture, lengths).si_snr[0].tolist()


def test_scores_are_kept_of_each_item_and_only_outside_training(tiny):
    separator, _ = tiny(num_steps=2)
    brain = make_brain(separator.float().eval())
    batch = PaddedBatch([item("a", 400), item("b", 200)])
    brain.compute_objectives(brain.compute_forward(batch, sb.Stage.TRAIN), batch, sb.Stage.TRAIN)
    assert brain.rows == [] and len(brain.depths) == 1
    loss = brain.compute_objectives(
        brain.compute_forward(batch, sb.Stage.VALID), batch, sb.Stage.VALID
    )
    assert [row["snt_id"] for row in brain.rows] == ["a", "b"]
    mean = sum(row["si_snr"] for row in brain.rows) / 2
    assert loss.item() == pytest.approx(-mean, abs=1e-4)
    assert brain.rows[0]["si_snr"] == pytest.approx(sum(scores_of(brain, batch)) / 2, abs=1e-4)


def test_ponder_cost_adds_the_mean_expected_depth_of_each_item(tiny):
    separator, _ = tiny(halting_bias=-1.0)
    items = [item("a", 400), item("b", 237)]
    plain, _ = loss_and_gradients(make_brain(separator.float()), items)
    costly, gradients = loss_and_gradients(make_brain(separator, ponder_cost=0.5), items)
    alone = []
    for each in items:
        _, trace = separator(each["mix_sig"][None], return_trace=True)
        alone.append(trace.expected_depth.mean())
    torch.testing.assert_close(costly - plain, 0.5 * sum(alone) / 2, atol=1e-5, rtol=1e-4)
    assert any(g.abs().sum() > 0 for g in gradients.values())


def test_ponder_cost_makes_it_shallower(tiny):
    """A few steps on the cost alone: the depth falls, so its gradient points the right way."""
    separator, _ = tiny(halting_bias=-2.0)
    mixture = torch.randn(1, 200).double()
    optimizer = torch.optim.Adam(separator.parameters(), lr=0.05)
    depths = []
    for _ in range(8):
        _, trace = separator(mixture, return_trace=True)
        depths.append(trace.mean_depth.item())
        optimizer.zero_grad()
        trace.ponder.mean().backward()
        optimizer.step()
    assert depths[-1] < depths[0] - 0.5


def test_ponder_cost_needs_a_recurrence(tiny):
    separator, _ = tiny(num_steps=2)
    brain = make_brain(separator.float(), ponder_cost=0.5)
    batch = PaddedBatch([item("a", 400)])
    estimates, _ = brain.compute_forward(batch, sb.Stage.TRAIN)
    with pytest.raises(UserError, match="ponder_cost"):
        brain.compute_objectives((estimates, None), batch, sb.Stage.TRAIN)


def fit(separator, data, schedule=None, ema_decay=0.0, **options):
    """One epoch of a step an item, without validation; the brain, and each step's rate."""
    rates, trained = [], []

    class Recording(torch.optim.SGD):
        def step(self, closure=None):
            rates.append(self.param_groups[0]["lr"])
            super().step(closure)
            trained.append([weight.detach().clone() for weight in separator.parameters()])

    hparams = brain_hparams(
        separator.parts, ema_decay, step_schedule=schedule or WarmupDecay(),
        lr_scheduler=ExponentialScheduler(0.1, 1.0),
    )
    run_opts = {"device": "cpu", "noprogressbar": True, **options}
    brain = Separation({"separator": separator}, lambda p: Recording(p, lr=0.1), hparams, run_opts)
    brain.fit(range(1, 2), data, train_loader_kwargs={"batch_size": 1})
    brain.trained = trained  # the weights after each step
    return brain, rates


def test_a_step_that_is_not_finite_is_skipped_as_a_whole_counted_and_named(tiny, caplog):
    separator, _ = tiny(num_steps=2)
    brain, rates = fit(separator.float(), Items(4, broken=(1, 2)))
    assert len(rates) == 2 and brain.optimizer_step == 2
    assert all(parameter.isfinite().all() for parameter in separator.parameters())
    assert "epoch 1, step 3: the gradient is not finite; step skipped (2" in caplog.text


def test_too_many_of_them_end_the_training_in_one_line(tiny):
    separator, _ = tiny(num_steps=2)
    with pytest.raises(UserError, match=r"training stopped: 2 steps of epoch 1 had a gradient"):
        fit(separator.float(), Items(4, broken=(1, 2, 3)), nonfinite_patience=1)


def test_the_learning_rate_warms_up(tiny):
    separator, _ = tiny(num_steps=2)
    brain, rates = fit(separator.float(), Items(4), WarmupDecay(3))
    assert rates == pytest.approx([0.1 / 3, 0.2 / 3, 0.1, 0.1])
    assert brain.optimizer.param_groups[0]["lr"] == 0.1
    assert brain.train_data.epoch == 1


def test_the_learning_rate_falls_to_zero_over_the_last_hours_and_training_ends_there(tiny):
    separator, _ = tiny(num_steps=2)
    data = Items(20)
    seconds = [len(one["mix_sig"]) / 8000 for one in data.items]
    hours = sum(seconds[:8]) / 3600
    schedule = WarmupDecay(train_hours=hours, decay_hours=hours / 2)
    brain, rates = fit(separator.float(), data, schedule)
    reached = [sum(seconds[: step + 1]) / 3600 for step in range(8)]
    expected = [0.1 * min(1, (hours - done) / (hours / 2)) for done in reached]
    assert rates == pytest.approx(expected, abs=1e-9)  # of 20 steps that there are
    assert brain.audio_hours == pytest.approx(hours)


def test_the_running_mean_of_the_weights_is_validated_and_gives_way_to_training(tiny, tmp_path):
    separator, _ = tiny(num_steps=2)
    brain, _ = fit(separator.float(), Items(20), ema_decay=0.5)
    averages = brain.trained[0]
    for step, weights in enumerate(brain.trained):
        share = min(0.5, (1 + step) / (10 + step))
        averages = [share * old + (1 - share) * new for old, new in zip(averages, weights)]
    holds = lambda wanted: torch.testing.assert_close(  # noqa: E731
        [weight.detach() for weight in separator.parameters()], list(wanted), atol=1e-6, rtol=1e-5)
    holds(brain.trained[-1])
    brain.on_stage_start(sb.Stage.VALID)
    holds(averages)
    average = brain.hparams.average
    average._save(tmp_path / "average.ckpt")
    brain.on_stage_start(sb.Stage.TRAIN, epoch=2)
    holds(brain.trained[-1])
    average.swap_in()  # a new process has what the checkpoint's modules hold, and then the rest
    again = WeightAverage(separator.parts, 0.5)
    again._recover(tmp_path / "average.ckpt")
    again.swap_in()
    holds(averages)
    again.swap_out()
    holds(brain.trained[-1])


def test_a_loss_below_the_threshold_teaches_nothing(tiny):
    separator, _ = tiny(num_steps=2)
    brain = make_brain(separator.float().train())
    items = [item("a", 400), item("b", 400)]
    items[1]["sources"] = items[1]["sources"] * 0  # 0 dB at best: far above a's loss or not
    with torch.no_grad():
        losses = [loss_and_gradients_free(brain, [one]) for one in items]
    brain.hparams.loss_threshold = (losses[0] + losses[1]) / 2
    kept = max(range(2), key=lambda number: losses[number])
    loss, gradients = loss_and_gradients(brain, items)
    assert loss.item() == pytest.approx(losses[kept] / 2, rel=1e-4)
    brain.hparams.loss_threshold = None
    _, alone = loss_and_gradients(brain, [items[kept]])
    for key, gradient in gradients.items():
        torch.testing.assert_close(gradient, alone[key] / 2, atol=1e-4, rtol=1e-3)


def loss_and_gradients_free(brain, items):
    batch = PaddedBatch(items)
    predictions = brain.compute_forward(batch, sb.Stage.TRAIN)
    return brain.compute_objectives(predictions, batch, sb.Stage.TRAIN).item()


@pytest.mark.parametrize("speakers", [1, 10])
def test_one_and_ten_speakers_are_trained_and_validated(tiny, tmp_path, speakers):
    separator = tiny(num_steps=2, num_spks=speakers)[0].float()
    data = [Items(2, speakers=speakers) for _ in range(2)]
    brain = fit_all(prepare(tmp_path, separator), *data)
    assert brain.optimizer_step == 2
    assert brain.checkpointer.find_checkpoint().meta["si_snr_i"] > -1000


def test_validation_scores_leave_silent_sources_out(tiny):
    separator, _ = tiny(num_steps=2)
    brain = make_brain(separator.float().eval())
    items = [item("both", 200), item("alone", 200)]
    items[1]["sources"] = items[1]["sources"] * torch.tensor([1.0, 0.0])
    items[1]["mix_sig"] = items[1]["sources"].sum(-1)
    batch = PaddedBatch(items)
    brain.compute_objectives(brain.compute_forward(batch, sb.Stage.VALID), batch, sb.Stage.VALID)
    scores = score(brain.compute_forward(batch, sb.Stage.VALID)[0], batch.sources.data,
                   batch.mix_sig.data)
    assert brain.rows[1] == {"snt_id": "alone", "si_snr": pytest.approx(scores.si_snr[1, 0].item())}
    assert brain._mean_score("si_snr_i") == pytest.approx(scores.si_snr_i[0].mean().item())


@pytest.mark.slow
def test_compiled_parts_train_alike_and_are_compiled_once_for_all_steps(
        tiny, tmp_path, monkeypatch):
    # without code generation, which takes minutes on a CPU
    monkeypatch.setattr(torch.nn.Module, "compile", partialmethod(
        torch.nn.Module.compile, backend="aot_eager"))
    torch._dynamo.reset()
    counters.clear()
    weights = {}
    for compiled in (False, True):
        torch.manual_seed(0)
        separator, _ = tiny("papez_small", halting_bias=-20.0, execution="masked", max_depth=4)
        brain = prepare(tmp_path / str(compiled), separator.float(), epochs=2, compile=compiled)
        items = Items(4)
        items.items = [item(str(number), 400) for number in range(4)]
        fit_all(brain, items, Items(3))  # the lengths of validation differ
        weights[compiled] = [p.detach().clone() for p in separator.parameters()]
    torch.testing.assert_close(weights[True], weights[False], atol=1e-5, rtol=1e-4)
    assert not counters["graph_break"]
    # the two ends of the mask network, and the block: for the first step, and for all others
    assert counters["stats"]["unique_graphs"] == 4
    torch.compiler.set_stance("default")  # which was left behind for the test set


def test_other_separators_are_not_compiled(tiny, tmp_path):
    separator, _ = tiny("convtasnet")
    with pytest.raises(UserError, match="--compile is for Papez's separators"):
        fit_all(prepare(tmp_path, separator.float(), compile=True))
