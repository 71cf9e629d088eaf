"""Trained separators in PyTorch: loading a bundle, and separating with it."""

from pathlib import Path

import numpy as np
import torch

from papez_lobes.fast.malloc import give_back_freed_memory
from papez_lobes.inference.bundle import load_modules
from papez_lobes.inference.compute_budget import (
    Setting,
    set_mean_depth,
    set_real_time_factor,
)
from papez_lobes.inference.interface import SpeechSeparation
from papez_lobes.scaling import match_mixture
from papez_lobes.separator import Separator

CALIBRATION_SECONDS = 30  # of a recording's beginning, on which a mean depth is set
LONG_SECONDS = 10  # mixtures for which giving memory back costs little


class TrainedSeparator(SpeechSeparation):
    """A separator of a bundle, in PyTorch. `papez_lobes.load` gives one.

    Arguments
    ---------
    path : str
        The bundle.
    separator : papez_lobes.separator.Separator
        In eval mode.
    sample_rate, num_speakers : int
        Of the model; the rate is in Hz.
    device : str or torch.device
        The separator's device.
    """

    engine = "torch"

    def __init__(
        self, path: str, separator: Separator, sample_rate: int, num_speakers: int,
        device: str | torch.device = "cpu",
    ):
        super().__init__(path, sample_rate, num_speakers)
        self.separator = separator
        self.device = torch.device(device)
        self.mean_depth = None  # to be set

    @classmethod
    def load(
        cls, bundle: str | Path, device: str | torch.device | None = None,
        dtype: str = "float32", overrides: dict | None = None, trust: bool = False,
    ) -> "TrainedSeparator":
        """Load a bundle, see `papez_lobes.load`."""
        device = default_device() if device is None else device
        modules, hparams = load_modules(bundle, overrides, device, dtype, trust)
        return cls(str(bundle), Separator.of(modules), hparams["sample_rate"], hparams["num_spks"],
                   device)

    @torch.inference_mode()
    def separate_with_depth(self, mixtures: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        mixtures = np.asarray(mixtures, dtype=np.float32)
        if mixtures.ndim != 2 or mixtures.shape[1] < 1:
            raise ValueError(f"mixtures are {list(mixtures.shape)}: they must be [B, T], T >= 1")
        batch = torch.from_numpy(mixtures).to(self.device)
        self._set_mean_depth(batch)
        estimates, trace = self.separator(batch, return_trace=True)
        estimates = match_mixture(estimates.cpu().numpy(), mixtures)
        if mixtures.shape[1] >= LONG_SECONDS * self.sample_rate:
            give_back_freed_memory()  # windows differ in size: fragments would pile up by the hour
        return estimates, None if trace is None else trace.depth.cpu().numpy()

    def set_budget(
        self, samples: np.ndarray, mean_depth: float | None = None,
        real_time_factor: float | None = None,
    ) -> Setting:
        batch = torch.from_numpy(np.atleast_2d(samples)).to(self.device)
        if mean_depth is not None:
            return set_mean_depth(self.separator, batch, mean_depth)
        return set_real_time_factor(self.separator, batch, real_time_factor, self.sample_rate)

    def set_mean_depth(self, mean_depth: float) -> None:
        self.mean_depth = mean_depth

    def _set_mean_depth(self, batch):
        """Set the wanted mean depth, once, on the start of the first batch that is not silent."""
        if self.mean_depth is not None and batch.any():
            target, self.mean_depth = self.mean_depth, None
            start = batch[:, : CALIBRATION_SECONDS * self.sample_rate]
            set_mean_depth(self.separator, start, target)


def default_device() -> str:
    """The fastest kind of device that works here: 'cuda', 'mps' or 'cpu'."""
    for device, backend in (("cuda", torch.cuda), ("mps", torch.backends.mps)):
        if backend.is_available():
            return device
    return "cpu"
