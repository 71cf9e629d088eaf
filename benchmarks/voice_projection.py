#!/usr/bin/env python3
"""Compute the projection of mel cepstra that `papez_lobes.inference.voices` tells voices by.

    python benchmarks/voice_projection.py shared/speech/train/* --out voices.npy

Linear discriminant analysis of pieces of 1.5 s: the mean and the log variance of their cepstra are
projected so that pieces of one speaker have covariance one, and pieces of different speakers lie
apart. The script writes `PROJECTION` of that module as a NumPy file of float16. The shipped one is
of 325 speakers of the training split (LibriSpeech, speechocean762 and Common Voice).
"""

import argparse
from pathlib import Path

import numpy as np

from papez_lobes.data.audio import read_audio
from papez_lobes.errors import UserError, one_line_errors
from papez_lobes.inference.voices import CEPSTRA, VOICE_DIMENSIONS, Voices, merge, voice_prints

RATE = 8000
BLOCKS = 12  # of a piece
FEWEST_FRAMES = 20  # with speech in a piece
FEWEST_PIECES, MOST_PIECES = 4, 100  # of a speaker
RIDGE = 0.01  # of the mean variance within speakers


def speaker_pieces(folder: Path) -> np.ndarray:
    """Statistics [pieces, 2 * CEPSTRA] of a speaker's files."""
    voices = Voices(2, RATE)
    identity = np.eye(2 * CEPSTRA)
    pieces = []
    for path in sorted(folder.iterdir()):
        samples = read_audio(path, RATE)
        blocks = merge(voices.analyse(np.stack([samples, np.zeros_like(samples)])), BLOCKS)
        spoken = blocks[blocks["weight"][:, 0] >= FEWEST_FRAMES]
        pieces.extend(voice_prints(spoken, projection=identity)[:, 0])
        if len(pieces) > MOST_PIECES:
            break
    return np.array(pieces)


def discriminant(speakers: list[np.ndarray]) -> np.ndarray:
    """Projection [D, VOICE_DIMENSIONS] of the pieces of some speakers.

    Arguments
    ---------
    speakers : list of numpy.ndarray
        [pieces, D] of each.

    Returns
    -------
    numpy.ndarray
    """
    centred = np.concatenate([pieces - pieces.mean(axis=0) for pieces in speakers])
    within = centred.T @ centred / (len(centred) - len(speakers))
    means = np.array([pieces.mean(axis=0) for pieces in speakers])
    noise = within * np.mean([1 / len(pieces) for pieces in speakers])  # of the means
    between = np.cov(means.T) - noise
    within += RIDGE * np.trace(within) / len(within) * np.eye(len(within))
    whitening = np.linalg.cholesky(np.linalg.inv(within))
    _, directions = np.linalg.eigh(whitening.T @ between @ whitening)
    return whitening @ directions[:, ::-1][:, :VOICE_DIMENSIONS]


def main(argv: list[str] | None = None) -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sources", type=Path, nargs="+",
                        help="folders with one folder of audio files for each speaker")
    parser.add_argument("--out", type=Path, required=True, help="file to write, voices.npy")
    options = parser.parse_args(argv)
    with one_line_errors("voice_projection.py"):
        folders = [folder for source in options.sources for folder in sorted(source.iterdir())]
        speakers = [speaker_pieces(folder) for folder in folders]
        speakers = [pieces for pieces in speakers if len(pieces) >= FEWEST_PIECES]
        if len(speakers) <= VOICE_DIMENSIONS:
            raise UserError(f"{len(speakers)} speakers with enough speech are too few")
        np.save(options.out, discriminant(speakers).astype("<f2"))
        print(f"{len(speakers)} speakers, {sum(map(len, speakers))} pieces")


if __name__ == "__main__":
    main()
