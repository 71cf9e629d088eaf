"""Models of asteroid for two speakers at 8 kHz, with its default settings, for `papez bench`.

    papez bench papez benchmarks/asteroid_models.py:ConvTasNet

asteroid pins an old torchmetrics: in an environment of its own, `pip install --no-deps asteroid
asteroid-filterbanks`.
"""

import torch
from asteroid import models


class AsteroidModel(torch.nn.Module):
    """The model of `asteroid.models` that has this class's name."""

    def __init__(self):
        super().__init__()
        self.model = getattr(models, type(self).__name__)(n_src=2, sample_rate=8000)

    def forward(self, mixture):
        """Mixture [B, T] -> estimates [B, T, C]."""
        return self.model(mixture).transpose(1, 2)


class ConvTasNet(AsteroidModel):
    """Conv-TasNet."""


class DPRNNTasNet(AsteroidModel):
    """Dual-path RNN."""


class DPTNet(AsteroidModel):
    """Dual-path transformer."""


class SuDORMRFNet(AsteroidModel):
    """SuDoRM-RF."""
