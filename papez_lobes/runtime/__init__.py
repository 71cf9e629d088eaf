"""Separation with an ONNX file: numpy, soundfile and onnxruntime alone, no torch.

    from papez_lobes.runtime import OnnxSeparator
    separator = OnnxSeparator("papez.onnx")
    estimates = separator.separate_batch(mixtures)  # [B, T] -> [B, T, C]
"""

from papez_lobes.runtime.separator import OnnxSeparator

__all__ = ["OnnxSeparator"]
