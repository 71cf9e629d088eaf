"""Items of noise and the hyperparameters of a Brain, for tests of training in one process."""

import torch

from papez_lobes.training.averaging import WeightAverage
from papez_lobes.training.losses import pit_si_snr_loss
from papez_lobes.training.schedules import WarmupDecay


def item(name, samples, speakers=2):
    """A mixture of noise and its sources, seeded by its length."""
    torch.manual_seed(samples)
    sources = torch.randn(samples, speakers)
    return {"id": name, "mix_sig": sources.sum(-1), "sources": sources}


class Items(torch.utils.data.Dataset):
    """Mixtures, of which those with a number in `broken` are NaN."""

    def __init__(self, count, broken=()):
        self.items = [item(str(number), 300 + number) for number in range(count)]
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
