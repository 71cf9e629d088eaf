"""The scale of estimates, which SI-SNR leaves free. Needs numpy only."""

import numpy as np

COPIES = 1e-4  # two estimates of a correlation above 1 - COPIES are copies of each other


def match_mixture(estimates: np.ndarray, mixtures: np.ndarray) -> np.ndarray:
    """Scale estimates so that they sum to the mixture.

    SI-SNR leaves scale and sign free. Here each speaker gets one gain, by least squares, for
    listening and for files. Scores do not need it. Least squares do not tell how estimates that
    are copies of each other share their part: they do so by their levels, so that a faint copy of
    the only voice stays faint.

    Arguments
    ---------
    estimates : numpy.ndarray
        [B, T, C], zero beyond each item's length.
    mixtures : numpy.ndarray
        [B, T], likewise.

    Returns
    -------
    numpy.ndarray
        [B, T, C], of the type of the estimates. All zeros where the mixture is silent.

    Example
    -------
    >>> sources = np.random.default_rng(0).standard_normal((1, 8000, 2))
    >>> matched = match_mixture(sources * [-0.1, 7.0], sources.sum(axis=2))
    >>> bool(np.allclose(matched, sources, atol=1e-3))
    True
    """
    wide = estimates.astype(np.float64)
    gram = _transposed(wide) @ wide  # [B, C, C]
    projection = _transposed(wide) @ mixtures[..., np.newaxis]  # [B, C, 1]
    # The equations are well conditioned for estimates of equal levels
    energies = np.diagonal(gram, axis1=1, axis2=2)[..., np.newaxis]
    levels = np.sqrt(energies / wide.shape[1])
    scale = np.maximum(levels, np.finfo(np.float32).tiny)
    gram, projection = gram / (scale * _transposed(scale)), projection / scale
    # One gain for all, and for each the sign that fits the mixture: what copies keep
    common = levels * np.sign(projection)
    energy = np.maximum(_transposed(common) @ gram @ common, np.finfo(np.float64).tiny)
    common *= (_transposed(common) @ projection) / energy
    inverse = np.linalg.pinv(gram, rcond=COPIES, hermitian=True)
    gains = common + inverse @ (projection - gram @ common)
    return (wide * _transposed(gains / scale)).astype(estimates.dtype)


def _transposed(matrices):
    """[B, m, n] to [B, n, m]."""
    return matrices.swapaxes(1, 2)
