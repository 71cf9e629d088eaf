"""Speed and memory of exported separators beside torch, on one thread.

    python benchmarks/onnx_speed.py papez-small-8k --folder results/onnx

Compared are a bundle in onnxruntime (float32, float16, int8) and in torch, and untrained
separators of the project, by default SkiM and Conv-TasNet, exported the same way. Times are CPU
seconds on one thread, medians of three interleaved runs (one of mixtures above 16 s). Peak memory
is that of a process of its own, which has loaded the model and separates once. ONNX files that the
folder holds are used as they are.

    python benchmarks/onnx_speed.py papez-small-8k --folder results/onnx --depth

measures instead how the time in the steps follows the mean depth.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

SAMPLE_RATE = 8000
WEIGHTS = ("float32", "float16", "int8")
RUNS = 3


def noise(seconds: float) -> np.ndarray:
    """Noise [T], whose separation takes as long as that of speech of the same depth."""
    samples = np.random.default_rng(0).standard_normal(round(seconds * SAMPLE_RATE))
    return samples.astype(np.float32) * 0.1


def export(bundle: str, others: list[str], folder: Path) -> dict[str, Path]:
    """Export what the folder does not hold yet; returns the files by name."""
    files = {f"{bundle} {weights}": folder / f"{bundle}_{weights}.onnx" for weights in WEIGHTS}
    files |= {name: folder / f"{name}.onnx" for name in others}
    for name, path in files.items():
        if path.is_file():
            continue
        from papez_lobes.export.onnx_file import export_bundle, to_onnx

        if name in others:
            import onnx

            path.parent.mkdir(parents=True, exist_ok=True)
            onnx.save(to_onnx(untrained(name)), path)
        else:
            export_bundle(bundle, path, weights=name.split()[1])
    return files


def untrained(name: str) -> dict:
    """The modules of a separator of the project, with weights that are always the same."""
    import torch

    from papez_lobes.config.separator_files import build_modules, separator_file

    torch.manual_seed(0)
    return build_modules(separator_file(name))


def by_onnxruntime(path: str, **budget):
    """A function of samples [T] that separates with an ONNX file; returns all outputs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs = {key: np.asarray(value) for key, value in budget.items()}
    return lambda samples: session.run(None, {"mixture": samples[None], **inputs})


def by_torch(name: str):
    """A function of samples [T] that separates with torch."""
    import torch

    from papez_lobes.inference.bundle import load_bundle
    from papez_lobes.inference.shipped import bundle_folder
    from papez_lobes.separator import Separator

    torch.set_num_threads(1)
    known = bundle_folder(name).is_dir()
    separator = Separator.of(load_bundle(name).mods if known else untrained(name)).eval()

    def separate(samples):
        with torch.inference_mode():
            return separator(torch.from_numpy(samples)[None])

    return separate


def load(name: str, path: str):
    """A separator by torch if its file is 'torch', else by onnxruntime."""
    return by_torch(name) if path == "torch" else by_onnxruntime(path)


def cpu_seconds(separate, samples) -> float:
    """CPU seconds of one separation."""
    started = time.process_time()
    separate(samples)
    return time.process_time() - started


def peak_memory(name: str, path: str, seconds: float) -> float:
    """Peak memory in MB of a process that loads a model and separates once."""
    done = subprocess.run(
        [sys.executable, __file__, name, "--peak-of", path, "--seconds", str(seconds)],
        capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def compare(bundle: str, others: list[str], files: dict, lengths: list[float]) -> None:
    """Print a row per model and runtime: real-time factor and peak memory at each length."""
    models = {f"{name}, onnxruntime": (name.split()[0], str(path)) for name, path in files.items()}
    models |= {f"{name}, torch": (name, "torch") for name in (bundle, *others)}
    peaks = {label: [peak_memory(*model, seconds) for seconds in lengths]
             for label, model in models.items()}
    print("memory is measured, times follow", file=sys.stderr, flush=True)
    loaded = {label: load(*model) for label, model in models.items()}
    times = {label: [] for label in models}
    for seconds in lengths:
        samples = noise(seconds)
        runs = RUNS if seconds <= 16 else 1
        for separate in loaded.values():
            separate(samples[:SAMPLE_RATE])
        rows = [[cpu_seconds(separate, samples) for separate in loaded.values()]
                for _ in range(runs)]
        for label, column in zip(models, zip(*rows)):
            times[label].append(statistics.median(column) / seconds)
    header = [f"{seconds:g} s" for seconds in lengths]
    print("| model | " + " | ".join(f"{h}, RTF" for h in header) + " | "
          + " | ".join(f"{h}, MB" for h in header) + " |")
    print("| --- |" + " --: |" * 2 * len(lengths))
    for label in models:
        cells = [f"{factor:.4f}" for factor in times[label]]
        cells += [f"{peak:.0f}" for peak in peaks[label]]
        print(f"| {label} | " + " | ".join(cells) + " |")


def compare_depths(path: Path, seconds: float) -> None:
    """Print the time in the steps at several mean depths, by a lower limit and by pruning."""
    samples = noise(seconds)
    settings = [{"max_depth": depth, "halting_bias": np.float32(-30)} for depth in (1, 2, 4)]
    settings += [{"max_depth": 4, "halting_bias": np.float32(bias)} for bias in (-3, -1, 0, 1, 2)]
    runners = [by_onnxruntime(str(path), **setting) for setting in settings]
    depths = [runner(samples)[1].mean() for runner in runners]
    rows = [[cpu_seconds(runner, samples) for runner in runners] for _ in range(5 * RUNS)]
    times = [statistics.median(column) for column in zip(*rows)]
    outside = 2 * times[0] - times[1]  # entry and exit: one step less than a single one
    full = times[2] - outside
    print(f"{seconds:g} s, entry and exit {1000 * outside:.1f} ms\n"
          "| max_depth | halting_bias | mean depth | in the steps, ms | of full depth |\n"
          "| --: | --: | --: | --: | --: |")
    for setting, depth, total in zip(settings, depths, times):
        print(f"| {setting['max_depth']} | {setting['halting_bias']:g} | {depth:.2f} | "
              f"{1000 * (total - outside):.1f} | {(total - outside) / full:.0%} |")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bundle", help="a bundle of a Papez")
    parser.add_argument("--folder", type=Path, default=Path("results/onnx"),
                        help="where ONNX files are kept; default: %(default)s")
    parser.add_argument("--others", nargs="*", default=["skim", "convtasnet"])
    parser.add_argument("--seconds", nargs="+", type=float, default=[1, 4, 16, 60])
    parser.add_argument("--depth", action="store_true", help="measure the steps instead")
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak_of:
        load(arguments.bundle, arguments.peak_of)(noise(arguments.seconds[0]))
        # not ru_maxrss, which begins at the size of the process that started this one
        status = Path("/proc/self/status").read_text()
        print(int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024)
        return
    if arguments.depth:
        files = export(arguments.bundle, [], arguments.folder)
        for seconds in arguments.seconds:
            compare_depths(files[f"{arguments.bundle} float32"], seconds)
        return
    files = export(arguments.bundle, arguments.others, arguments.folder)
    compare(arguments.bundle, arguments.others, files, arguments.seconds)


if __name__ == "__main__":
    main()
