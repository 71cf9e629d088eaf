#!/usr/bin/env python3
"""Separate real voices with the weights of this project, then train anew for some minutes.

Speech is fetched (or taken from --speech) and mixed in WSJ0-mix's folder layout. Training and test
are the recipe's: its train.py runs as a user would run it.
"""

import argparse
import csv
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from demo_voices import fetch_voices
from speechbrain.utils.checkpoints import Checkpointer

import papez_lobes
from papez_lobes.data.audio import read_audio
from papez_lobes.data.corpora.wsj0mix import mixture_files, prepare_wsj0mix, split_folder
from papez_lobes.data.mixtures.trees import draw_plans, render_plans
from papez_lobes.data.tracks import TrackWriter
from papez_lobes.errors import UserError, one_line_errors
from papez_lobes.evaluation.evaluate import evaluate
from papez_lobes.evaluation.pictures import draw_separation
from papez_lobes.inference.bundle import load_bundle
from papez_lobes.inference.recordings import estimate_paths
from papez_lobes.inference.shipped import shipped_bundles
from papez_lobes.separator import Separator
from papez_lobes.training.losses import score

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "recipes/WSJ0Mix/separation"
COUNTS = {"tr": 1500, "cv": 60, "tt": 60}
SAMPLE_RATE, NUM_SPKS, SEED = 8000, 2, 0


def main(argv: list[str] | None = None) -> None:
    """Run the demo."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "papez"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--speech", default=os.environ.get("SPEECH"), metavar="FOLDER",
                        help="folder with one subfolder per speaker (default: $SPEECH, or voices "
                        "that are fetched)")
    parser.add_argument("--out", default="results/demo", help="(default %(default)s)")
    parser.add_argument("--minutes", type=float, default=7.0,
                        help="training stops after about that (default 7)")
    parser.add_argument("--cache", metavar="FOLDER", default=cache,
                        help="where voices are kept (default: the user's cache)")
    arguments = parser.parse_args(argv)
    with one_line_errors("demo"):
        run(arguments.speech, Path(arguments.out).absolute(), arguments.minutes, arguments.cache)


def run(speech: str | None, out: Path, minutes: float, cache: str | Path) -> None:
    """Run the six steps of the demo; the last one prints where the results are.

    Arguments
    ---------
    speech : str or None
        Folder with one subfolder per speaker; None: fetch voices.
    out : pathlib.Path
        Where to; absolute.
    minutes : float
        Of training.
    cache : str or pathlib.Path
        Where voices are kept.
    """
    started = time.monotonic()
    _announce(1, "speech")
    speech = Path(speech) if speech else fetch_voices(cache)
    print(f"speech of real speakers: {speech}")
    _announce(2, "mixtures")
    plans = draw_plans(speech, COUNTS, NUM_SPKS, seed=SEED)
    tree = render_plans(plans, out, speech, [SAMPLE_RATE])
    best = shipped_bundles(NUM_SPKS)[0]
    _announce(3, f"separating with the weights that come with the project ({best})")
    shipped = _separate(best, tree, out / "shipped")
    gains = _evaluate(best, tree, out / "shipped")
    print(f"{shipped['mix']}: {_improvements(shipped)}\n"
          f"all {len(gains)} test mixtures: {sum(gains) / len(gains):+.2f} dB SI-SNRi in the mean, "
          f"{min(gains):+.1f} to {max(gains):+.1f}\nhear {_joined(shipped)}, see "
          f"{shipped['picture']}")
    _announce(4, f"training from nothing for about {minutes:g} minutes, then the test")
    _train(tree, out / "training", minutes)
    _announce(5, "separating the same mixture with what was trained")
    shown = _separate(out / "training/bundle", tree, out)
    _announce(6, "done")
    _print_results(out, tree, shown, time.monotonic() - started)


def _announce(step, what):
    print(f"\n[{step}/6] {what}", flush=True)


def _train(tree, folder, minutes):
    """Run the recipe's train.py, with its progress bars."""
    command = [
        sys.executable, "train.py", "hparams/demo.yaml",
        "--data_folder", str(tree), "--output_folder", str(folder),
        "--training_minutes", f"{minutes:g}",
    ]
    print("in", RECIPE.relative_to(ROOT), "$", "python", *command[1:], flush=True)
    if subprocess.run(command, cwd=RECIPE).returncode:
        raise UserError(f"training stopped; its log is {folder / 'log.txt'}")


def _evaluate(bundle, tree, out):
    """SI-SNRi of all test mixtures, in dB."""
    model = load_bundle(bundle)
    manifests = prepare_wsj0mix(tree, out / "manifests", NUM_SPKS, SAMPLE_RATE, splits=("tt",))
    separator = Separator.of(model.mods)
    rows = evaluate(separator, manifests["tt"], NUM_SPKS, SAMPLE_RATE, measures=(), jobs=0).rows
    return [row["si_snr_i"] for row in rows]


def _separate(bundle, tree, out):
    """Separate one test mixture to files and a picture; returns files and scores."""
    separator = papez_lobes.load(bundle, device="cpu")
    folder = split_folder(tree, "tt", SAMPLE_RATE)
    name = sorted(path.stem for path in (folder / "mix").glob("*.wav"))[0]
    mix, *references = mixture_files(folder, name, NUM_SPKS)
    mixture = read_audio(mix, SAMPLE_RATE)[None]
    sources = np.stack([read_audio(path, SAMPLE_RATE) for path in references], axis=-1)
    estimates, depth = separator.separate_with_depth(mixture)  # [1, T, C], [1, L]
    scores = score(*map(torch.from_numpy, (estimates, sources[None], mixture)))
    estimates = estimates[0][:, scores.permutation[0].tolist()]
    files = estimate_paths(out, name, NUM_SPKS)
    with TrackWriter(files, SAMPLE_RATE, overwrite=True) as writer:
        writer.write(estimates.T)
    improvements = scores.si_snr_i[0].tolist()
    picture = draw_separation(
        out / "separation.png", mixture[0], sources, estimates, depth[0], SAMPLE_RATE,
        improvements,
    )
    return {"mix": mix, "files": files, "picture": picture, "improvements": improvements}


def _improvements(shown):
    """The improvement of each speaker, in words."""
    return ", ".join(f"{db:+.2f} dB" for db in shown["improvements"]) + " SI-SNRi"


def _joined(shown):
    return ", ".join(map(str, shown["files"]))


def _print_results(out, tree, shown, seconds):
    training = out / "training"
    best = Checkpointer(training / "save").find_checkpoint(max_key="si_snr_i")
    with open(training / "test_results.csv", encoding="utf-8") as stream:
        average = list(csv.DictReader(stream))[-1]
    rows = {
        "validation": f"{best.meta['si_snr_i']:+.2f} dB SI-SNRi, mean of {COUNTS['cv']} mixtures",
        "test": f"{float(average['si_snr_i']):+.2f} dB SI-SNRi, mean of {COUNTS['tt']} mixtures; "
        f"mean depth {float(average['mean_depth']):.2f} steps",
        "": "(the same voices as in training, other utterances)",
        "mixture": shown["mix"],
        "estimates": f"{_joined(shown)} ({_improvements(shown)})",
        "picture": shown["picture"],
        "bundle": training / "bundle",
        "log": training / "train_log.txt",
        "per mixture": training / "test_results.csv",
        "mixtures": tree,
        "took": f"{seconds / 60:.1f} minutes",
    }
    for name, value in rows.items():
        print(f"{name:>12}  {value}")
    print("separate a recording of your own:")
    print(f"{'':>12}  papez separate FILE --bundle {training / 'bundle'} --out FOLDER")


if __name__ == "__main__":
    main()
