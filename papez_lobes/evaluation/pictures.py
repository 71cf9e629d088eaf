"""A picture of one separated mixture: what went in, what came out, and how deep each token went."""

import io
from pathlib import Path

import matplotlib
import numpy as np
from scipy.signal import spectrogram

from papez_lobes.data.audio import write_bytes

matplotlib.use("Agg")  # files only; no display is needed
import matplotlib.pyplot as plt

DYNAMIC_RANGE = 60  # dB shown below the loudest point of the mixture


def draw_separation(path, mixture, sources, estimates, depth, sample_rate, titles):
    """Draw spectrograms of mixture, sources and estimates, and the depth of each token.

    Arguments
    ---------
    path : str or pathlib.Path
        The PNG to write.
    mixture : numpy.ndarray
        [T].
    sources, estimates : numpy.ndarray
        [T, C], in one order.
    depth : numpy.ndarray or None
        [L], the steps that each token ran.
    sample_rate : int
        Hz.
    titles : list of str
        One a speaker, for the estimates.

    Returns
    -------
    pathlib.Path
        The picture.
    """
    speakers, seconds = sources.shape[1], len(mixture) / sample_rate
    rows = 2 + speakers if depth is not None else 1 + speakers
    figure, axes = new_figure(rows, 2, (12, 1.9 * rows + 0.6), sharex=True, squeeze=False)
    loudest = _spectrogram(mixture, sample_rate)[2].max()
    grid = axes[0, 0].get_gridspec()
    for axis in axes[0]:
        axis.remove()
    top = figure.add_subplot(grid[0, :])
    _draw(top, mixture, sample_rate, loudest, "mixture")
    for speaker in range(speakers):
        row = axes[1 + speaker]
        _draw(row[0], sources[:, speaker], sample_rate, loudest, f"speaker {speaker + 1}")
        _draw(row[1], estimates[:, speaker], sample_rate, loudest, titles[speaker])
    if depth is not None:
        for axis in axes[-1]:
            axis.remove()
        bottom = figure.add_subplot(grid[-1, :])
        _draw_depth(bottom, depth, seconds)
    figure.supxlabel("seconds", fontsize=9)
    write_bytes(path, png_of(figure))
    return Path(path)


def new_figure(rows, columns, size, **options):
    """A figure of that many axes and `size` in inches, and the axes."""
    return plt.subplots(rows, columns, figsize=size, layout="constrained", **options)


def png_of(figure):
    """The bytes of a figure as PNG; the figure is closed."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    plt.close(figure)
    return stream.getvalue()


def _spectrogram(signal, sample_rate):
    """Times [F] in s, frequencies [K] in kHz and levels [K, F] in dB; 32 ms Hann windows."""
    size = int(0.032 * sample_rate)
    padded = np.pad(signal, (0, max(0, size - len(signal))))
    frequencies, times, power = spectrogram(
        padded, sample_rate, window="hann", nperseg=size, noverlap=size - size // 4, mode="psd"
    )
    return times, frequencies / 1000, 10 * np.log10(power + 1e-18)


def _draw(axis, signal, sample_rate, loudest, title):
    times, frequencies, level = _spectrogram(signal, sample_rate)
    axis.pcolormesh(
        times, frequencies, level, vmin=loudest - DYNAMIC_RANGE, vmax=loudest, cmap="magma",
        shading="nearest", rasterized=True,
    )
    axis.set_xlim(0, len(signal) / sample_rate)
    axis.set_title(title, fontsize=9, loc="left")
    axis.set_ylabel("kHz", fontsize=8)
    axis.tick_params(labelsize=8)


def _draw_depth(axis, depth, seconds):
    edges = np.linspace(0, seconds, len(depth) + 1)
    axis.stairs(depth, edges, fill=True, color="#9fc3e8", linewidth=0)
    width = min(len(depth), max(1, int(0.05 * len(depth) / seconds)))
    smooth = np.convolve(depth, np.ones(width), "same") / np.convolve(
        np.ones(len(depth)), np.ones(width), "same"
    )
    axis.plot((edges[:-1] + edges[1:]) / 2, smooth, color="#1f4e79", linewidth=1.2)
    axis.set_xlim(0, seconds)
    axis.set_ylim(0, depth.max() + 0.5)
    axis.set_title(
        f"steps that each token ran (line: mean over 50 ms; mean {depth.mean():.2f})",
        fontsize=9, loc="left",
    )
    axis.set_ylabel("steps", fontsize=8)
    axis.tick_params(labelsize=8)
