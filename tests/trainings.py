"""Items of noise and the hyperparameters of a Brain, for tests of training in one process."""

import torch
from speechbrain.utils.train_logger import FileTrainLogger

from papez_lobes.training.averaging import WeightAverage
from papez_lobes.training.brain import Separation
from papez_lobes.training.checkpoints import AtomicCheckpointer
from papez_lobes.training.curve import FILE as CURVE
from papez_lobes.training.curve import TrainingCurve
from papez_lobes.training.epochs import TimedEpochCounter
from papez_lobes.training.losses import pit_si_snr_loss
from papez_lobes.training.schedules import ExponentialScheduler, WarmupDecay


def item(name, samples, speakers=2):
    """A mixture of noise and its sources, seeded by its length."""
    torch.manual_seed(samples)
    sources = torch.randn(samples, speakers)
    return {"id": name, "mix_sig": sources.sum(-1), "sources": sources}


class Items(torch.utils.data.Dataset):
    """Mixtures, of which those with a number in `broken` are NaN."""

    def __init__(self, count, broken=(), speakers=2):
        self.items = [item(str(number), 150 + number, speakers) for number in range(count)]
        for number in broken:
            self.items[number]["mix_sig"][5] = torch.nan

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]

    def set_epoch(self, epoch):
        self.epoch = epoch


def brain_hparams(modules, ema_decay=0.0, **changes):
    """What the experiment gives a Brain, without a learning rate."""
    return {
        "loss": pit_si_snr_loss, "ponder_cost": 0.0, "loss_threshold": None, "save_audio": 0,
        "seed": 0, "sample_rate": 8000, "step_schedule": WarmupDecay(),
        "average": WeightAverage(modules, ema_decay), **changes,
    }


def prepare(folder, separator, epochs=1, lr=0.01, ema_decay=0.0, scheduler=None, optimizer=None,
            schedule=None, **options):
    """A brain as train.py makes it, whose `rates` are those of its steps if SGD takes them."""
    rates = []

    class Recording(torch.optim.SGD):
        def step(self, closure=None):
            rates.append(self.param_groups[0]["lr"])
            super().step(closure)

    counter = TimedEpochCounter(epochs)
    hparams = brain_hparams(
        separator.parts, ema_decay, step_schedule=schedule or WarmupDecay(),
        train_curve=TrainingCurve(folder / CURVE), tensorboard=False, epoch_counter=counter,
        train_log=folder / "train_log.txt",
        train_logger=FileTrainLogger(folder / "train_log.txt"),
        lr_scheduler=scheduler or ExponentialScheduler(lr, 0.5),
    )
    parts = {"separator": separator, "counter": counter, "average": hparams["average"]}
    brain = Separation(
        {"separator": separator}, optimizer or (lambda p: Recording(p, lr=lr)), hparams,
        {"device": "cpu", "noprogressbar": True, **options},
        AtomicCheckpointer(folder / "save", parts),
    )
    brain.rates = rates
    return brain


def fit(brain, train=None, valid=None, batch_size=1):
    """Train a brain of `prepare` to its last epoch; returns it."""
    one, several = {"batch_size": 1}, {"batch_size": batch_size}
    train, valid = (Items(count) if items is None else items
                    for count, items in ((4, train), (2, valid)))
    brain.fit(brain.hparams.epoch_counter, train, valid, train_loader_kwargs=several,
              valid_loader_kwargs=one)
    return brain
