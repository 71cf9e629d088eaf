"""Papez: speech separation with an auditory working memory, token pruning and one recurrent layer.

The path of the data (B batch, T samples, L tokens, N channels, C speakers)::

    mixture [B, T] -> codec.Encoder [B, N, L] -> masknet.MaskNet [C, B, N, L]
                   -> mask * features -> codec.Decoder -> estimates [B, T, C]

or, on a spectrogram, with the three of `spectral` in their places.
`Separator` is that path; everything else of the package trains, feeds or uses it.
Source: Oh, Yi and Lee, "Papez: Resource-Efficient Speech Separation with Auditory Working
Memory", ICASSP 2023, arXiv 2407.00888. Where we deviate: docs/design.md.
"""

import importlib

__version__ = "0.1.0"
# Public names by module. They are imported at first use: torch takes seconds.
_PUBLIC = {"Separator": "separator", "load": "inference.interface"}
__all__ = ["Separator", "__version__", "load"]


def __getattr__(name):
    if name in _PUBLIC:
        return getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
