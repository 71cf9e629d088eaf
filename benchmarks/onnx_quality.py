"""Whether exported separators equal PyTorch, and what smaller weights cost, on real mixtures.

    python benchmarks/onnx_quality.py papez-small-8k TREE --split cv --folder results/onnx

TREE holds mixtures, as `papez mix` makes them. The first table compares the float32 file with
PyTorch, pruned and at full depth: mixtures are joined, and again if they are too few, and pieces of
each length are separated as a whole. Depths are compared token by token, and estimates of pieces
whose depths agree. The second table has the file size and SI-SNRi of each kind of weights, and
real-time factors on one thread; the kinds take turns.
"""

import argparse
import os
import statistics
from pathlib import Path

import numpy as np
import torch
from onnx_speed import WEIGHTS, cpu_seconds, export

from papez_lobes.cli.evaluate import find_manifest
from papez_lobes.data.audio import read_audio
from papez_lobes.evaluation.evaluate import read_manifest
from papez_lobes.inference.bundle import load_modules
from papez_lobes.profiling.cost import count_parameters
from papez_lobes.runtime import OnnxSeparator
from papez_lobes.separator import Separator
from papez_lobes.training.losses import score

NEVER_HALTS = -30.0  # halting bias
PIECES = 20  # of each length, at most


def compare_with_torch(bundle: str, path: Path, signal: np.ndarray, lengths: list[float]) -> None:
    """Print how far the float32 file is from PyTorch, at each length."""
    print("| depth | seconds | pieces | tokens that differ | largest difference |\n"
          "| --- | --: | --: | --: | --: |")
    for label, overrides in (("pruned", {}), ("full", {"halting_bias": NEVER_HALTS})):
        modules, hparams = load_modules(bundle, overrides)
        separator, runner = Separator.of(modules), OnnxSeparator(path, threads=1, **overrides)
        for seconds in lengths:
            size = round(seconds * hparams["sample_rate"])
            pieces = [piece for piece in np.split(signal, range(size, signal.size, size))
                      if piece.size == size][:PIECES]
            differing = tokens = largest = 0
            for piece in pieces:
                with torch.inference_mode():
                    wanted, trace = separator(torch.from_numpy(piece)[None], return_trace=True)
                estimates, depth = runner.estimate(piece)
                differs = depth != trace.depth[0].numpy()
                differing, tokens = differing + differs.sum(), tokens + differs.size
                if not differs.any():
                    largest = max(largest, np.abs(estimates - wanted[0].numpy()).max())
            print(f"| {label} | {seconds:g} | {len(pieces)} | {differing} of {tokens} | "
                  f"{largest:.1e} |", flush=True)


def compare_weights(bundle: str, files: dict[str, Path], mixtures: list) -> None:
    """Print a row for each kind of weights."""
    modules, hparams = load_modules(bundle)
    runners = {name: OnnxSeparator(path, threads=1) for name, path in files.items()}
    gains, factors, depths = ({name: [] for name in files} for _ in range(3))
    for _, paths in mixtures:
        mixture, *sources = (read_audio(path, hparams["sample_rate"]) for path in paths)
        for name, runner in runners.items():
            took = cpu_seconds(runner.estimate, mixture)
            factors[name].append(took * hparams["sample_rate"] / mixture.size)
            estimates, depth = runner.estimate(mixture)
            scores = score(*(torch.from_numpy(x)[None] for x in (
                estimates, np.stack(sources, axis=1), mixture)))
            gains[name].append(scores.si_snr_i.mean().item())
            depths[name].append(depth.mean())
    print("\n| weights | file | bytes a parameter | SI-SNRi | RTF | mean depth |\n"
          "| --- | --: | --: | --: | --: | --: |")
    parameters = count_parameters(modules)
    for name, path in files.items():
        size = os.path.getsize(path)
        print(f"| {name.split()[1]} | {size / 1e6:.2f} MB | {size / parameters:.2f} | "
              f"{np.mean(gains[name]):.3f} dB | {statistics.median(factors[name]):.4f} | "
              f"{np.mean(depths[name]):.3f} |")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bundle", help="a bundle of a Papez")
    parser.add_argument("tree", help="mixtures, as `papez mix` makes them")
    parser.add_argument("--split", default="cv")
    parser.add_argument("--folder", type=Path, default=Path("results/onnx"),
                        help="where ONNX files are kept; default: %(default)s")
    parser.add_argument("--count", type=int, default=100, help="of mixtures")
    parser.add_argument("--seconds", nargs="+", type=float, default=[0.1, 1, 4, 15, 600])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    files = export(arguments.bundle, [], arguments.folder)
    _, hparams = load_modules(arguments.bundle)
    rate, speakers = hparams["sample_rate"], hparams["num_spks"]
    manifest = find_manifest(
        arguments.tree, arguments.folder, speakers, rate, split=arguments.split)
    mixtures = read_manifest(manifest, speakers, rate, arguments.count)
    signal = np.concatenate([read_audio(paths[0], rate) for _, paths in mixtures])
    signal = np.resize(signal, max(signal.size, round(max(arguments.seconds) * rate)))
    path = files[f"{arguments.bundle} {WEIGHTS[0]}"]
    compare_with_torch(arguments.bundle, path, signal, arguments.seconds)
    compare_weights(arguments.bundle, files, mixtures)


if __name__ == "__main__":
    main()
