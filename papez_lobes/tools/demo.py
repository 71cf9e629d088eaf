"""Separate real voices with the shipped weights; then train for a few minutes, and show it.

Speech is fetched (or taken from --speech), mixed in WSJ0-mix's folder layout, and goes through
the recipe's front door: the same train.py and the same commands that a user would type.
"""

import csv
import os
import subprocess
import sys
import time
from pathlib import Path

import speechbrain.utils.checkpoints as checkpoints
import torch

from papez_lobes.data.audio import read_audio
from papez_lobes.data.corpora.wsj0mix import mixture_files, split_folder
from papez_lobes.errors import UserError
from papez_lobes.evaluation.evaluate import evaluate
from papez_lobes.evaluation.pictures import draw_separation
from papez_lobes.inference.bundle import DEFAULT, load_bundle
from papez_lobes.inference.files import separate_file, write_estimates
from papez_lobes.tools.evaluate import find_manifest
from papez_lobes.tools.mix import mix_tree
from papez_lobes.tools.voices import fetch_voices
from papez_lobes.training.losses import reorder
from papez_lobes.training.si_snr import score

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "recipes/WSJ0Mix/separation"
COUNTS = {"tr": 1500, "cv": 60, "tt": 60}
SAMPLE_RATE, NUM_SPKS, SEED = 8000, 2, 0


def add_arguments(parser):
    """Declare the command's arguments."""
    parser.add_argument(
        "--speech", default=os.environ.get("SPEECH"), metavar="FOLDER",
        help="folder with one subfolder per speaker (default: $SPEECH, else voices are fetched)",
    )
    parser.add_argument("--out", default="results/demo", help="(default results/demo)")
    parser.add_argument(
        "--minutes", type=float, default=7.0, help="training stops after about that (default 7)"
    )
    parser.add_argument(
        "--cache", metavar="FOLDER", help="where voices are kept (default: the user's cache)",
        default=Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "papez",
    )


def run(arguments):
    """Six steps, each announced; the last says where everything lies."""
    if not (RECIPE / "train.py").is_file():
        raise UserError(f"{RECIPE}: no such folder; run the demo from a checkout of the project")
    started, out = time.monotonic(), Path(arguments.out).absolute()
    _announce(1, "speech")
    speech = Path(arguments.speech) if arguments.speech else fetch_voices(arguments.cache)
    print(f"speech of real speakers: {speech}")
    _announce(2, "mixtures")
    tree = mix_tree(speech, out, COUNTS, NUM_SPKS, sample_rate=SAMPLE_RATE, seed=SEED)
    _announce(3, f"separating with the weights that come with the project ({DEFAULT})")
    shipped = _separate(DEFAULT, tree, out / "shipped")
    gains = _evaluate(DEFAULT, tree, out / "shipped")
    print(f"{shipped['mix']}: {_both(shipped)}\n"
          f"all {len(gains)} test mixtures: {sum(gains) / len(gains):+.2f} dB SI-SNRi in the mean, "
          f"{min(gains):+.1f} to {max(gains):+.1f}\nhear {_joined(shipped)}, see "
          f"{shipped['picture']}")
    _announce(4, f"training from nothing for about {arguments.minutes:g} minutes, then the test")
    _train(tree, out / "training", arguments.minutes)
    _announce(5, "separating the same mixture with what was trained")
    shown = _separate(out / "training/bundle", tree, out)
    _announce(6, "done")
    _summarise(out, tree, shown, time.monotonic() - started)


def _announce(step, what):
    print(f"\n[{step}/6] {what}", flush=True)


def _train(tree, folder, minutes):
    """Run the recipe as a user would; its progress bars show."""
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
    manifest = find_manifest(tree, out / "manifests", model.hparams)
    rows = evaluate(model.mods, manifest, NUM_SPKS, SAMPLE_RATE, measures=(), jobs=0).rows
    return [row["si_snr_i"] for row in rows]


def _separate(bundle, tree, out):
    """Separate one test mixture to files and a picture; returns what there is to say of it."""
    model = load_bundle(bundle)
    folder = split_folder(tree, "tt", SAMPLE_RATE)
    name = sorted(path.stem for path in (folder / "mix").glob("*.wav"))[0]
    mix, *references = mixture_files(folder, name, NUM_SPKS)
    separated = separate_file(model, mix)
    sources = torch.stack(
        [torch.from_numpy(read_audio(path, SAMPLE_RATE)) for path in references], dim=-1
    )
    scores = score(separated.estimates[None], sources[None], separated.mixture[None])
    separated.estimates = reorder(separated.estimates[None], scores.permutation)[0]
    files = write_estimates(separated, mix, out)
    improvement = scores.si_snr_i[0].tolist()
    picture = draw_separation(
        out / "separation.png",
        separated.mixture.numpy(),
        sources.numpy(),
        separated.estimates.numpy(),
        separated.trace.depth[0].numpy() if separated.trace else None,
        SAMPLE_RATE,
        [f"estimate {i} ({db:+.1f} dB SI-SNRi)" for i, db in enumerate(improvement, 1)],
    )
    return {"mix": mix, "files": files, "picture": picture, "improvement": improvement}


def _both(shown):
    """The improvement of each speaker, in words."""
    return ", ".join(f"{db:+.2f} dB" for db in shown["improvement"]) + " SI-SNRi"


def _joined(shown):
    return ", ".join(map(str, shown["files"]))


def _summarise(out, tree, shown, seconds):
    training = out / "training"
    best = checkpoints.Checkpointer(training / "save").find_checkpoint(max_key="si_snr_i")
    with open(training / "test_results.csv", encoding="utf-8") as stream:
        average = list(csv.DictReader(stream))[-1]
    rows = {
        "validation": f"{best.meta['si_snr_i']:+.2f} dB SI-SNRi, mean of {COUNTS['cv']} mixtures",
        "test": f"{float(average['si_snr_i']):+.2f} dB SI-SNRi, mean of {COUNTS['tt']} mixtures; "
        f"mean depth {float(average['mean_depth']):.2f} steps",
        "": "(the same voices as in training, other utterances)",
        "mixture": shown["mix"],
        "estimates": f"{_joined(shown)} ({_both(shown)})",
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
