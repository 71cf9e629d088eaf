"""A picture of a separated recording of any length: spectrograms of it and of its tracks."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from papez_lobes.data.audio import audio_info, open_audio
from papez_lobes.files import png_bytes, write_bytes

COLUMNS = 1200  # of a spectrogram, at most
WINDOW = 0.032  # seconds
DYNAMIC_RANGE_DB = 60  # shown below the loudest point of the recording


def draw_tracks(
    path: str | Path, source: str | Path, tracks: Sequence[str | Path], title: str
) -> None:
    """Draw spectrograms of a recording and of its tracks, one below the other, as a PNG.

    The tracks are files of the recording's duration, and `title` is what it is called. An existing
    PNG is replaced. Memory does not grow with the length of the recording.
    """
    from matplotlib.figure import Figure

    rate = audio_info(tracks[0]).sample_rate
    seconds = audio_info(tracks[0]).seconds
    figure = Figure((12, 1.9 * (1 + len(tracks)) + 0.4), layout="constrained")
    axes = figure.subplots(1 + len(tracks), 1, sharex=True)
    levels = [_levels(file, rate, round(seconds * rate)) for file in (source, *tracks)]
    loudest = float(levels[0].max())
    names = [title, *(Path(track).name for track in tracks)]
    for axis, name, level in zip(axes, names, levels):
        axis.imshow(
            level, origin="lower", aspect="auto", cmap="magma", interpolation="nearest",
            extent=(0, seconds, 0, rate / 2000), vmin=loudest - DYNAMIC_RANGE_DB, vmax=loudest,
        )
        axis.set_title(name, fontsize=9, loc="left", parse_math=False)
        axis.set_ylabel("kHz", fontsize=8)
        axis.tick_params(labelsize=8)
    axes[-1].set_xlabel("seconds", fontsize=9)
    write_bytes(path, png_bytes(figure))


def _levels(file, rate, samples):
    """Levels [frequencies, columns] in dB: the loudest frame of each column."""
    size = int(WINDOW * rate) // 2 * 2
    hop = size // 2
    columns = max(1, min(COLUMNS, samples // hop - 1))
    powers = np.full((columns, size // 2 + 1), 1e-12)
    window, position, rest = np.hanning(size), 0, np.zeros(0, np.float32)
    with open_audio(file, rate, truncated="keep") as audio:
        for block in audio.blocks():
            rest = np.concatenate([rest, block])
            count = max(0, (rest.size - size) // hop + 1)
            frames = np.lib.stride_tricks.sliding_window_view(rest, size)[::hop][:count]
            centres = position + (np.arange(count) + 1) * hop
            places = (centres * columns) // max(1, samples)
            power = np.square(np.abs(np.fft.rfft(frames * window)))
            np.maximum.at(powers, places.clip(0, columns - 1), power)
            position += count * hop
            rest = rest[count * hop :]
    return 10 * np.log10(powers.T)
