"""Logs of a training besides SpeechBrain's: console, TensorBoard and a summary at the end."""

import importlib.util
import logging
import re
from pathlib import Path

import torch
from speechbrain.utils.checkpoints import Checkpoint

from papez_lobes.errors import UserError
from papez_lobes.files import write_bytes

EPOCH = re.compile(r"epoch: (\d+),")  # of a line of SpeechBrain's text log
DYNAMIC_RANGE_DB = 80.0  # of spectrograms, below their loudest point
FLOOR = 1e-10  # power; keeps the logarithm of silence finite
LOG_CONFIG = str(Path(__file__).with_name("logging.yaml"))
# Loggers whose notes a user wants to read while training; all others stay in log.txt.
SHOWN = ("train", "papez_lobes", "speechbrain.utils.train_logger")
# Warnings of SpeechBrain that mean nothing here: no figure is logged with torchvision, and parts
# without weights have an empty state dict.
UNIMPORTANT = ("torchvision is not available", "Saving an empty state_dict")


class ConsoleFilter(logging.Filter):
    """Show a training's results and warnings on the console, and leave the rest to log.txt.

    Example
    -------
    >>> def record(name, level):
    ...     return logging.LogRecord(name, level, "", 0, "text", (), None)
    >>> shown = ConsoleFilter()
    >>> shown.filter(record("speechbrain.utils.train_logger", logging.INFO))
    True
    >>> shown.filter(record("speechbrain.utils.checkpoints", logging.INFO))
    False
    >>> shown.filter(record("speechbrain.utils.checkpoints", logging.WARNING))
    True
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """True if a record is shown."""
        if record.getMessage().startswith(UNIMPORTANT):
            return False
        shown = any(record.name == name or record.name.startswith(f"{name}.") for name in SHOWN)
        return shown or record.levelno >= logging.WARNING


def quiet_speechbrain() -> None:
    """Hide what SpeechBrain logs before its logging is set up from the console."""
    for name in ("speechbrain.utils.quirks", "speechbrain.utils.train_logger"):
        logging.getLogger(name).addFilter(_before_set_up)


def _before_set_up(record):
    """Before logging is set up, show what `ConsoleFilter` shows."""
    return bool(logging.getLogger().handlers) or ConsoleFilter().filter(record)


def check_tensorboard() -> None:
    """Raise UserError if TensorBoard is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        raise UserError("tensorboard: True needs TensorBoard; pip install tensorboard, or set it "
                        "to False")


class TensorBoard:
    """SpeechBrain's TensorBoard logger, whose steps are epochs: a resumed training continues them.

    Arguments
    ---------
    folder : str or pathlib.Path
        Folder of the log.

    Raises
    ------
    UserError
        TensorBoard is not installed.
    """

    def __init__(self, folder: str | Path):
        # this import warns of what SpeechBrain's other loggers lack
        from speechbrain.utils.train_logger import TensorboardLogger

        check_tensorboard()
        self.logger = TensorboardLogger(str(folder))

    def log(
        self, epoch: int, lr: float, train_stats: dict[str, float], valid_stats: dict[str, float],
        signals: dict[str, torch.Tensor], sample_rate: int,
    ) -> None:
        """Log an epoch.

        Arguments
        ---------
        epoch : int
            Number of the epoch, from 1.
        lr : float
            The learning rate.
        train_stats, valid_stats : dict of str to float
            Scalars, logged as `name/train` and `name/valid`.
        signals : dict of str to torch.Tensor
            Signals [T] of one validation mixture, logged as audio and as spectrograms.
        sample_rate : int
            Hz.
        """
        steps = self.logger.global_step
        for name, stats in (("train", train_stats), ("valid", valid_stats)):
            steps[name] = {stat: epoch - 1 for stat in stats}
        steps["meta"] = epoch - 1
        self.logger.log_stats({"lr": lr}, train_stats, valid_stats)
        for name, signal in signals.items():
            peak = signal.abs().max().clamp(min=FLOOR)
            self.logger.log_audio(f"audio/{name}", signal / peak, sample_rate)
            self.logger.log_figure(f"spectrogram/{name}", spectrogram(signal, sample_rate))
        if self.logger.writer is not None:  # on the main process
            self.logger.writer.flush()


def drop_epochs_after(file: str | Path, epoch: int) -> None:
    """Remove the lines of later epochs from a text log; other lines stay.

    Example
    -------
    >>> log = getfixture("tmp_path") / "train_log.txt"
    >>> _ = log.write_text("epoch: 1, lr: 1\\nepoch loaded: 1\\nepoch: 2, lr: 1\\n")
    >>> drop_epochs_after(log, 1)
    >>> log.read_text()
    'epoch: 1, lr: 1\\nepoch loaded: 1\\n'
    """
    if not Path(file).is_file():
        return
    lines = Path(file).read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if not (m := EPOCH.match(line)) or int(m[1]) <= epoch]
    if len(kept) < len(lines):
        write_bytes(file, "".join(kept).encode())


def spectrogram(signal: torch.Tensor, sample_rate: int) -> torch.Tensor:
    """Levels in dB [frames, bins] of a signal [T], with 32 ms Hann windows every 8 ms.

    Example
    -------
    >>> tone = torch.sin(2 * torch.pi * 1000 / 8000 * torch.arange(8000))
    >>> levels = spectrogram(tone, 8000)
    >>> levels.shape, int(levels.mean(dim=0).argmax())
    (torch.Size([126, 129]), 32)
    """
    size = int(0.032 * sample_rate)
    window = torch.hann_window(size, device=signal.device)
    padded = torch.nn.functional.pad(signal, (0, max(0, size - len(signal))))
    power = torch.stft(padded, size, size // 4, window=window, return_complex=True).abs().square()
    levels = 10 * torch.log10(power + FLOOR).T
    return levels.clamp(min=float(levels.max()) - DYNAMIC_RANGE_DB)


def summary(
    epochs: int, minutes: float, audio_hours: float, best: Checkpoint, files: dict[str, str | Path]
) -> list[str]:
    """Describe a finished training.

    Arguments
    ---------
    epochs : int
        Number of epochs.
    minutes : float
        Time spent in training, over all runs.
    audio_hours : float
        Hours of mixtures trained on, over all runs.
    best : speechbrain.utils.checkpoints.Checkpoint
        The best checkpoint, with `epoch` and `si_snr_i` in its meta.
    files : dict of str to path
        Results by name; those that do not exist are left out.

    Returns
    -------
    list of str
        Lines to print.

    Example
    -------
    >>> from collections import namedtuple
    >>> best = namedtuple("Checkpoint", "meta")({"epoch": 3, "si_snr_i": 6.2})
    >>> for line in summary(5, 90.0, 30.0, best, {}):
    ...     print(line)
    trained 5 epochs in 90.0 minutes on 30.00 hours of audio: 20.0 s of audio a second
    best epoch: 3, si_snr_i 6.20 dB on the validation mixtures
    """
    speed = 60 * audio_hours / minutes if minutes else 0.0
    lines = [f"trained {epochs} epochs in {minutes:.1f} minutes on {audio_hours:.2f} hours of audio"
             f": {speed:.1f} s of audio a second"]
    lines.append(f"best epoch: {best.meta.get('epoch', '?')}, si_snr_i "
                 f"{best.meta['si_snr_i']:.2f} dB on the validation mixtures")
    return lines + [f"{name}: {path}" for name, path in files.items() if Path(path).exists()]
