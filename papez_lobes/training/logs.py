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
    """Show a training's results and warnings on the console, and leave the rest to log.txt."""

    def filter(self, record: logging.LogRecord) -> bool:
        """True if a record is shown."""
        if record.getMessage().startswith(UNIMPORTANT):
            return False
        shown = any(record.name == name or record.name.startswith(f"{name}.") for name in SHOWN)
        return shown or record.levelno >= logging.WARNING


def quiet_speechbrain() -> None:
    """Hide what SpeechBrain logs before its logging is set up from the console.

    A log.txt on a full disk is passed over, without the tracebacks that Python would print.
    """
    def is_shown(record):
        return bool(logging.getLogger().handlers) or ConsoleFilter().filter(record)

    logging.raiseExceptions = False
    for name in ("speechbrain.utils.quirks", "speechbrain.utils.train_logger"):
        logging.getLogger(name).addFilter(is_shown)


def check_tensorboard() -> None:
    """Raise UserError if TensorBoard is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        raise UserError("tensorboard: True needs TensorBoard; pip install tensorboard, or set it "
                        "to False")


class TensorBoard:
    """A TensorBoard log whose steps are epochs, so that a resumed training continues it."""

    def __init__(self, folder: str | Path):
        check_tensorboard()
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder))

    def log(
        self, epoch: int, scalars: dict[str, float], signals: dict[str, torch.Tensor],
        sample_rate: int,
    ) -> None:
        """Log an epoch (from 1): scalars, and signals [T] as audio and as spectrograms."""
        for name, value in scalars.items():
            self.writer.add_scalar(name, value, epoch)
        for name, signal in signals.items():
            peak = signal.abs().max().clamp(min=FLOOR)
            self.writer.add_audio(f"audio/{name}", signal / peak, epoch, sample_rate)
            levels = spectrogram(signal, sample_rate).T.flip(0)  # low frequencies at the bottom
            image = (levels - levels.max()) / DYNAMIC_RANGE_DB + 1
            self.writer.add_image(f"spectrogram/{name}", image, epoch, dataformats="HW")
        self.writer.flush()


def drop_epochs_after(file: str | Path, epoch: int) -> None:
    """Remove the lines of later epochs from a text log; other lines stay."""
    if not Path(file).is_file():
        return
    # a power cut can leave any bytes at its end
    lines = Path(file).read_text("utf-8", "surrogateescape").splitlines(keepends=True)
    kept = [line for line in lines if not (m := EPOCH.match(line)) or int(m[1]) <= epoch]
    if len(kept) < len(lines):
        write_bytes(file, "".join(kept).encode(errors="surrogateescape"))


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
    epochs: int, minutes: float, audio_hours: float, best: Checkpoint, files: dict[str, Path]
) -> list[str]:
    """Describe a finished training in lines to print.

    `minutes` and `audio_hours` are of all its runs, `best` is its best checkpoint, and `files` are
    results by name, of which those that do not exist are left out.
    """
    speed = 60 * audio_hours / minutes if minutes else 0.0
    return [
        f"trained {epochs} epochs in {minutes:.1f} minutes on {audio_hours:.2f} hours of audio: "
        f"{speed:.1f} s of audio a second",
        f"best epoch: {best.meta.get('epoch', '?')}, si_snr_i {best.meta['si_snr_i']:.2f} dB on "
        "the validation mixtures",
        *(f"{name}: {path}" for name, path in files.items() if path.exists()),
    ]
