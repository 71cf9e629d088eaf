"""Resuming: exactly, or with a line that says what differs; and checkpoints from a stranger."""

import io
import pickle
import zipfile
from functools import partial

import pytest
import torch
from speechbrain.core import Stage
from speechbrain.nnet.schedulers import ReduceLROnPlateau

from papez_lobes.errors import UserError
from papez_lobes.training.muon import MuonAdamW
from tests.tiny import build
from tests.trainings import Items, fit, prepare


class Interrupted(Exception):
    pass


def interrupted_fit(brain, steps, **options):
    """Train until a step has been made and its checkpoint saved, as by a power cut."""
    save = brain._save_intra_epoch_ckpt

    def save_and_stop():
        save()
        if brain.optimizer_step == steps:
            raise Interrupted

    brain._save_intra_epoch_ckpt = save_and_stop
    with pytest.raises(Interrupted):
        fit(brain, **options)


def plateau():
    scheduler = ReduceLROnPlateau(factor=0.5, patience=1, dont_halve_until_epoch=0)
    scheduler.anchor = -1e9  # which no loss is below: the rate falls after the second epoch
    return scheduler


OPTIONS = {
    "plateau scheduler": lambda: {"scheduler": plateau()},
    "bfloat16": lambda: {"precision": "bf16", "eval_precision": "bf16"},
    "weight average": lambda: {"ema_decay": 0.9},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_resuming_within_an_epoch_is_exact_with_a(name, tmp_path):
    def brain(folder):
        separator = build(num_steps=2)[0].float()
        adamw = partial(MuonAdamW, modules=separator.parts, lr=0.01)
        options = {"epochs": 2, "optimizer": adamw, "ckpt_interval_steps": 1, **OPTIONS[name]()}
        return prepare(tmp_path / folder, separator, **options)

    whole = fit(brain("whole"), Items(2), Items(1))
    interrupted_fit(brain("cut"), 3, train=Items(2), valid=Items(1))  # within epoch 2
    resumed = fit(brain("cut"), Items(2), Items(1))
    assert resumed.optimizer_step == whole.optimizer_step == 4
    for name, weight in whole.modules.state_dict().items():
        assert torch.equal(weight, resumed.modules.state_dict()[name]), name
    rates = [brain.optimizer.param_groups[0]["lr"] for brain in (whole, resumed)]
    assert rates[0] == rates[1]
    logs = [(tmp_path / folder / "train_log.txt").read_text() for folder in ("whole", "cut")]
    assert logs[0] == logs[1]


def test_the_plateau_is_kept_by_a_checkpoint_and_an_earlier_one_without_it_goes_on(small, tmp_path):
    fit(prepare(tmp_path, small, epochs=1, scheduler=plateau()), Items(2), Items(1))
    file, = (tmp_path / "save").glob("CKPT*/lr_scheduler.ckpt")
    scheduler = plateau()
    fit(prepare(tmp_path, small, epochs=2, scheduler=scheduler), Items(2), Items(1))
    assert len(scheduler.losses) == 2
    for file in (tmp_path / "save").glob("CKPT*/*"):
        if file.name in ("lr_scheduler.ckpt", "sizes.json"):
            file.unlink()
    scheduler = plateau()
    fit(prepare(tmp_path, small, epochs=3, scheduler=scheduler), Items(2), Items(1))
    assert len(scheduler.losses) == 1


@pytest.mark.parametrize("change, line", [
    ({"batch_size": 2}, "batch_size was 1, is 2"), ({"train": Items(3)}, "mixtures was 4, is 3"),
])
def test_with_other_batches_the_rest_of_the_epoch_is_left_out_and_that_is_said(
    small, tmp_path, caplog, change, line,
):
    interrupted_fit(prepare(tmp_path, small, ckpt_interval_steps=1), 2, train=Items(4))
    brain = fit(prepare(tmp_path, small, epochs=2), **change)
    assert f"({line}): the rest of that epoch is left out" in caplog.text
    assert len(brain.rates) == (2 if "batch_size" in change else 3)  # of the second epoch
    assert brain.hparams.epoch_counter.current == 2


def test_with_the_same_batches_nothing_is_said(small, tmp_path, caplog):
    interrupted_fit(prepare(tmp_path, small, ckpt_interval_steps=1), 2, train=Items(4))
    brain = fit(prepare(tmp_path, small))
    assert "left out" not in caplog.text and len(brain.rates) == 2


class Hostile:
    """What runs code where it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return (open, (str(self.file), "w"))


def hostile_files(file):
    """Bytes of a bare pickle, and of a file as torch writes it, that make `file` when unpickled."""
    bare, archive = pickle.dumps(Hostile(file), protocol=2), io.BytesIO()
    with zipfile.ZipFile(archive, "w") as stream:
        stream.writestr("archive/data.pkl", bare)
        stream.writestr("archive/version", "3\n")
        stream.writestr("archive/byteorder", "little")
    yaml = f"!!python/object/apply:builtins.open ['{file}', w]"
    return {"pickle": bare, "torch": archive.getvalue(), "yaml": yaml.encode()}


def test_no_file_of_a_checkpoint_from_a_stranger_runs_code(small, tmp_path):
    def brain(epochs):
        return prepare(tmp_path, small, epochs=epochs, scheduler=plateau(), ema_decay=0.9)

    fit(brain(1), Items(2), Items(1))
    checkpoint, = (tmp_path / "save").glob("CKPT*")
    (checkpoint / "sizes.json").unlink()  # of which a stranger's would be right
    trained = tmp_path / "ran"
    names = sorted(path.name for path in checkpoint.iterdir())
    assert {"brain.ckpt", "optimizer.ckpt", "average.ckpt", "CKPT.yaml"} <= set(names)
    for name in names:
        file = checkpoint / name
        good = file.read_bytes()
        for kind, content in hostile_files(trained).items():
            file.write_bytes(content)
            fresh = brain(2)
            try:
                fresh.make_dataloader(Items(2), Stage.TRAIN, batch_size=1)
                fresh.on_fit_start()
            except UserError as error:
                assert "is no checkpoint of this training" in str(error), (name, kind)
            assert not trained.exists(), (name, kind)
        file.write_bytes(good)
