"""The same numbers sooner: what `precision.lower_precision` swaps in for inference on a CPU."""
