"""Trainings that fail or are interrupted: what is kept, counted, logged and refused."""

import math
from functools import partial

import pytest
import torch
import yaml
from speechbrain.nnet.schedulers import ReduceLROnPlateau
from speechbrain.utils.train_logger import FileTrainLogger

from papez_lobes.errors import UserError
from papez_lobes.training.curve import FILE as CURVE
from papez_lobes.training.curve import TrainingCurve
from papez_lobes.training.logs import check_tensorboard
from papez_lobes.training.losses import pit_si_snr_loss
from papez_lobes.training.muon import MuonAdamW
from papez_lobes.training.output_folder import branch_from
from papez_lobes.training.schedules import WarmupDecay
from tests.trainings import Items, fit, prepare


def best(brain):
    return brain.checkpointer.find_checkpoint(max_key="si_snr_i").meta


def epochs_logged(folder):
    lines = (folder / "train_log.txt").read_text().splitlines()
    return [int(line.split(",")[0].removeprefix("epoch: ")) for line in lines]


def test_a_validation_that_is_not_finite_never_stands_for_the_best(small, tmp_path, caplog):
    score = best(fit(prepare(tmp_path, small)))["si_snr_i"]
    brain = fit(prepare(tmp_path, small, epochs=2), valid=Items(2, broken=(1,)))
    assert best(brain) == {**best(brain), "si_snr_i": score, "epoch": 1}
    assert "epoch 2: the validation score is nan" in caplog.text
    assert "valid loss: nan" in (tmp_path / "train_log.txt").read_text()
    other = fit(prepare(tmp_path / "other", small), valid=Items(2, broken=(0,)))
    assert best(other)["si_snr_i"] == -math.inf


@pytest.mark.parametrize("broken", [(0, 1, 2), range(4)])
def test_the_training_loss_is_the_mean_of_finite_ones_or_there_is_none(small, tmp_path, broken):
    brain = prepare(tmp_path, small, lr=1e-9, nonfinite_patience=9)
    if len(broken) == 4:
        with pytest.raises(UserError, match="no step of epoch 1 had a finite gradient; lower lr"):
            fit(brain, Items(4, broken))
        assert not (tmp_path / "train_log.txt").exists()
        return
    fit(brain, Items(4, broken))
    brain.hparams.average.swap_out()
    item = Items(4)[3]
    estimates, _ = brain.compute_forward(_Batch(item), None)
    loss = pit_si_snr_loss(estimates, item["sources"][None], torch.ones(1)).item()
    assert brain.train_stats["loss"] == pytest.approx(loss, abs=1e-3)
    assert brain.train_stats["skipped_steps"] == 3


class _Batch:
    def __init__(self, item):
        self.mix_sig = item["mix_sig"][None], torch.ones(1)

    def to(self, device):
        return self


def test_fewer_batches_than_a_step_takes_are_refused(small, tmp_path):
    brain = prepare(tmp_path, small, grad_accumulation_factor=5)
    with pytest.raises(UserError, match="an epoch of 4 batches has no step"):
        fit(brain)
    assert not brain.rates and brain.step == 0  # before training
    with pytest.raises(UserError, match="an epoch of 2 batches has no step"):
        fit(prepare(tmp_path, small, grad_accumulation_factor=3, debug=True))


@pytest.mark.parametrize("name", ["train", "valid"])
def test_an_empty_split_is_refused_before_training(small, tmp_path, name):
    brain = prepare(tmp_path, small)
    with pytest.raises(UserError, match=f"{name}: the data set has no mixture"):
        fit(brain, **{name: Items(0)})
    assert not brain.rates


def scaled(brain, scale):
    """As on a GPU in fp16, where gradients are scaled."""
    brain.scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=10**6)
    return brain


def test_steps_that_a_scaler_skips_count_for_nothing_while_its_scale_falls(small, tmp_path):
    brain = scaled(prepare(tmp_path, small, ema_decay=0.5, nonfinite_patience=0), 2.0**10)
    fit(brain, Items(4, broken=(0, 2)))
    assert len(brain.rates) == brain.optimizer_step == brain.hparams.average.steps == 2
    assert brain.scaler.get_scale() == 2.0**8 and brain.skipped == 0


def test_with_a_scaler_too_the_patience_ends(small, tmp_path):
    brain = scaled(prepare(tmp_path, small, nonfinite_patience=1), 2.0)
    with pytest.raises(UserError, match="training stopped: 2 steps of epoch 1 had a gradient"):
        fit(brain, Items(8, broken=range(1, 8)))
    assert len(brain.rates) == 1


def test_without_a_running_mean_training_goes_on_with_the_trained_weights(small, tmp_path):
    first = fit(prepare(tmp_path, small, ema_decay=0.9))
    trained = [other.clone() for other in first.hparams.average.others]
    brain = prepare(tmp_path, small, epochs=2, lr=1e-12)
    brain.on_fit_start()
    assert brain.hparams.average.others  # the checkpoint brought both
    fit(brain)
    kept = [p.detach() for p in small.parameters()]
    torch.testing.assert_close(kept, trained, atol=1e-6, rtol=1e-5)
    assert brain.hparams.average.others == [] and brain.hparams.average.steps == 0


def test_another_learning_rate_counts_from_the_next_step_on_and_is_what_is_logged(small, tmp_path):
    fit(prepare(tmp_path, small, lr=0.01))
    brain = fit(prepare(tmp_path, small, epochs=3, lr=0.004))
    assert brain.rates == pytest.approx([0.002] * 4 + [0.001] * 4)
    lines = (tmp_path / "train_log.txt").read_text().splitlines()
    assert [line.split(" - ")[0] for line in lines] == [
        "epoch: 1, lr: 1.00e-02", "epoch: 2, lr: 2.00e-03", "epoch: 3, lr: 1.00e-03"]


def test_on_a_plateau_the_rate_falls_from_the_next_epoch_on(small, tmp_path):
    scheduler = ReduceLROnPlateau(factor=0.5, patience=0, dont_halve_until_epoch=0)
    scheduler.anchor = -1e9  # which no loss is below
    brain = fit(prepare(tmp_path, small, epochs=3, lr=0.004, scheduler=scheduler))
    assert brain.rates == pytest.approx([0.004] * 4 + [0.002] * 4 + [0.001] * 4)
    assert "epoch: 2, lr: 2.00e-03" in (tmp_path / "train_log.txt").read_text()


def test_an_epoch_that_was_logged_but_not_saved_is_logged_once(small, tmp_path, monkeypatch):
    fit(prepare(tmp_path, small))

    def killed(*arguments, **options):
        raise SystemExit

    brain = prepare(tmp_path, small, epochs=2)
    monkeypatch.setattr(brain.checkpointer, "save_and_keep_only", killed)
    with pytest.raises(SystemExit):
        fit(brain)
    assert epochs_logged(tmp_path) == [1, 2]
    before = (tmp_path / "train_log.txt").read_text()
    fit(prepare(tmp_path, small, epochs=3))
    assert epochs_logged(tmp_path) == [1, 2, 3]
    assert (tmp_path / "train_log.txt").read_text().startswith(before)


def test_a_checkpoint_of_an_earlier_version_holds_less(small, tmp_path):
    brain = fit(prepare(tmp_path, small))
    file = tmp_path / "brain.ckpt"
    brain._save(file)
    saved = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({key: saved[key] for key in saved if key != "skipped"}))
    again = prepare(tmp_path / "again", small)
    again._recover(file, end_of_epoch=True)
    assert again.audio_seconds == brain.audio_seconds > 0 and again.skipped == 0


def test_another_optimizer_does_not_go_on_and_a_test_needs_none(small, tmp_path):
    muon = partial(MuonAdamW, modules=small.parts, lr=0.01)
    adamw = partial(torch.optim.AdamW, lr=0.01)
    fit(prepare(tmp_path / "a", small, optimizer=muon))
    fit(prepare(tmp_path / "a", small, optimizer=muon, epochs=2))
    with pytest.raises(UserError, match="its optimizer is MuonAdamW, the experiment's is AdamW"):
        fit(prepare(tmp_path / "a", small, optimizer=adamw, epochs=3))
    brain = prepare(tmp_path / "a", small, optimizer=adamw)
    brain.on_evaluate_start(max_key="si_snr_i")
    assert brain.audio_seconds > 0
    fit(prepare(tmp_path / "b", small, optimizer=adamw))
    for file in (tmp_path / "b/save").glob("CKPT*/brain.ckpt"):  # as of before optimizers had names
        saved = yaml.safe_load(file.read_text())
        file.write_text(yaml.safe_dump({k: saved[k] for k in saved if k != "optimizer"}))
        (file.parent / "sizes.json").unlink()
    with pytest.raises(UserError, match="its optimizer is AdamW, the experiment's is MuonAdamW"):
        fit(prepare(tmp_path / "b", small, optimizer=muon, epochs=2))
    fit(prepare(tmp_path / "b", small, optimizer=adamw, epochs=2))


def test_clipping_is_of_all_gradients_together(small, tmp_path):
    brain = prepare(tmp_path, small, optimizer=partial(MuonAdamW, modules=small.parts, lr=0.01))
    brain.init_optimizers()
    for parameter in small.parameters():
        parameter.grad = torch.full_like(parameter, 100.0)
    gradients = [parameter.grad for parameter in small.parameters()]
    brain.max_grad_norm = 1.0
    brain.optimizers_step()
    assert torch.nn.utils.get_total_norm(gradients).item() == pytest.approx(1.0, abs=1e-3)


def test_a_branch_decays_from_the_trunks_hours_and_resumes_exactly(small, tmp_path):
    """The trunk is trained at a constant rate; its branch goes on from its last checkpoint."""
    trunk = fit(prepare(tmp_path / "trunk", small, epochs=1), Items(4))
    hours = trunk.audio_hours
    assert trunk.decay_start is None and trunk.rates == [0.01] * 4
    branch_from(tmp_path / "trunk", tmp_path / "branch/save", tmp_path / "branch")
    with pytest.raises(UserError, match="no epoch has been validated"):  # by the branch
        prepare(tmp_path / "branch", small).best_checkpoint()
    decay = WarmupDecay(decay_hours=1.5 * hours)
    branch = fit(prepare(tmp_path / "branch", small, epochs=9, schedule=decay), Items(4))
    assert branch.decay_start == pytest.approx(hours)
    assert branch.audio_hours == pytest.approx(2.5 * hours, rel=0.2)
    assert all(early > late for early, late in zip(branch.rates[:4], branch.rates[1:]))
    assert branch.rates[0] == pytest.approx(0.005 * (1 - 1 / 6), rel=0.05)  # of epoch 2
    assert [r["epoch"] for r in TrainingCurve(tmp_path / "branch" / CURVE).records] == [1, 2, 3]
    assert branch.best_checkpoint().meta["epoch"] > 1
    again = prepare(tmp_path / "branch", small, epochs=9, schedule=decay)
    fit(again)
    assert again.decay_start == branch.decay_start and not again.rates  # it had ended
    branch_from(tmp_path / "trunk", tmp_path / "branch/save", tmp_path / "branch")
    assert len(epochs_logged(tmp_path / "branch")) >= 2  # a second call changes nothing


def test_a_trunk_without_a_whole_checkpoint_is_one_line(small, tmp_path):
    with pytest.raises(UserError, match="holds no checkpoint to go on from; name"):
        branch_from(tmp_path / "nothing", tmp_path / "save", tmp_path)
    fit(prepare(tmp_path / "trunk", small, epochs=1), Items(2))
    [meta] = tmp_path.glob("trunk/save/CKPT+*/CKPT.yaml")
    for damage in (lambda: meta.write_bytes(b""), lambda: meta.write_bytes(b"\xff"), meta.unlink):
        damage()
        with pytest.raises(UserError, match=r"no checkpoint to go on from \(CKPT.*CKPT.yaml"):
            branch_from(tmp_path / "trunk", tmp_path / "save", tmp_path)
        assert not (tmp_path / "save").exists()


def test_a_logger_that_fails_costs_no_checkpoint(small, tmp_path, monkeypatch, caplog):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("papez_lobes.training.brain.TensorBoard", fail)
    brain = prepare(tmp_path, small, epochs=2)
    brain.hparams.tensorboard, brain.hparams.output_folder = True, tmp_path
    fit(brain)
    assert best(brain)["epoch"] in (1, 2)
    assert "epoch 2 is not logged ([Errno 28] No space left on device)" in caplog.text


@pytest.mark.parametrize("full", ["train_log", "train_curve"])
def test_a_log_on_a_full_disk_costs_no_checkpoint(small, tmp_path, caplog, full):
    brain = prepare(tmp_path, small, epochs=1)
    if full == "train_log":
        brain.hparams.train_logger = FileTrainLogger("/dev/full")
    else:
        brain.hparams.train_curve = TrainingCurve("/dev/full/curve.json")
    fit(brain)
    assert best(brain)["epoch"] == 1
    assert "epoch 1 is not logged" in caplog.text


def test_a_missing_package_is_named_before_anything_is_prepared(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install tensorboard"):
        check_tensorboard()
