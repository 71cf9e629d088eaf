"""Pictures of an evaluation: separated mixtures, and the distribution of the scores."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.ndimage import uniform_filter1d

from papez_lobes.evaluation.averages import counted, finite_values
from papez_lobes.files import png_bytes, write_bytes
from papez_lobes.training.logs import spectrogram

DYNAMIC_RANGE_DB = 60  # shown below the loudest point of the mixture


def draw_separation(
    path: str | Path, mixture: np.ndarray, sources: np.ndarray, estimates: np.ndarray,
    depth: np.ndarray | None, sample_rate: int, improvements: Sequence[float],
) -> Path:
    """Draw spectrograms of mixture, sources and estimates, and the depth of each token.

    The mixture is [T], sources and estimates are [T, C] in the same order, `depth` is [L] or None
    without a recurrence, and `improvements` are each estimate's SI-SNRi in dB, for the titles.
    Returns the path, which is that of a PNG.
    """
    speakers, seconds = sources.shape[1], len(mixture) / sample_rate
    rows = 1 + speakers + (depth is not None)
    figure = Figure((12, 1.9 * rows + 0.6), layout="constrained")
    grid = figure.add_gridspec(rows, 2)
    # at full scale, as powers of very loud and very quiet signals are no float32
    scale = float(np.abs(mixture).max()) or 1.0
    mixture, sources, estimates = mixture / scale, sources / scale, estimates / scale
    loudest = float(spectrogram(torch.from_numpy(mixture), sample_rate).max())
    top = figure.add_subplot(grid[0, :])
    _draw_spectrogram(top, mixture, sample_rate, loudest, "mixture")
    for index, gain in enumerate(improvements):
        left = figure.add_subplot(grid[1 + index, 0], sharex=top)
        right = figure.add_subplot(grid[1 + index, 1], sharex=top)
        score = f" ({gain:+.1f} dB SI-SNRi)" if np.isfinite(gain) else ""
        title = f"estimate {index + 1}{score}"
        _draw_spectrogram(left, sources[:, index], sample_rate, loudest, f"speaker {index + 1}")
        _draw_spectrogram(right, estimates[:, index], sample_rate, loudest, title)
    if depth is not None:
        _draw_depth(figure.add_subplot(grid[-1, :], sharex=top), depth, seconds)
    figure.supxlabel("seconds", fontsize=9)
    write_bytes(path, png_bytes(figure))
    return Path(path)


def draw_distribution(rows: list[dict]) -> bytes:
    """Draw a histogram of the mixtures' SI-SNRi, and each source's against its SI-SNR before.

    `rows` are those of an Evaluation. Returns a PNG.
    """
    figure = Figure((10, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    improvements = finite_values(rows, "si_snr_i")
    left.hist(improvements, bins=min(40, max(5, len(rows) // 5)), color="#4878a8")
    if improvements:
        mean = np.mean(improvements)
        left.axvline(mean, color="#b03030", label=f"mean {mean:.2f}")
        left.legend(frameon=False)
    left.set(xlabel="SI-SNRi, dB", ylabel="mixtures")
    # single sources, since the mean over the sources of a mixture is always near 0 dB before
    names = [name for name in rows[0] if name.startswith("si_snr_i_s")]
    pairs = np.array([
        (row[name.replace("_i_", "_")] - row[name], row[name])
        for row in counted(rows, "si_snr_i") for name in names
    ])
    if pairs.size:
        right.scatter(*pairs.T, s=8, alpha=0.5, color="#4878a8")
    right.axhline(0, color="#999", linewidth=0.8)
    right.set(xlabel="SI-SNR of the mixture to a source, dB", ylabel="SI-SNRi of the source, dB")
    return png_bytes(figure)


def _draw_spectrogram(axis, signal, sample_rate, loudest, title):
    levels = spectrogram(torch.from_numpy(np.ascontiguousarray(signal)), sample_rate).T
    axis.imshow(
        levels, origin="lower", aspect="auto", cmap="magma", interpolation="nearest",
        extent=(0, len(signal) / sample_rate, 0, sample_rate / 2000),
        vmin=loudest - DYNAMIC_RANGE_DB, vmax=loudest,
    )
    _label(axis, title, "kHz")


def _draw_depth(axis, depth, seconds):
    edges = np.linspace(0, seconds, len(depth) + 1)
    axis.stairs(depth, edges, fill=True, color="#9fc3e8", linewidth=0)
    width = min(len(depth), max(1, int(0.05 * len(depth) / seconds)))
    smooth = uniform_filter1d(depth.astype(float), width, mode="nearest")
    axis.plot((edges[:-1] + edges[1:]) / 2, smooth, color="#1f4e79", linewidth=1.2)
    axis.set_ylim(0, depth.max() + 0.5)
    title = f"steps that each token ran (line: mean over 50 ms; mean {depth.mean():.2f})"
    _label(axis, title, "steps")


def _label(axis, title, ylabel):
    axis.set_title(title, fontsize=9, loc="left")
    axis.set_ylabel(ylabel, fontsize=8)
    axis.tick_params(labelsize=8)
