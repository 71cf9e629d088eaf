#!/usr/bin/env python3
"""Score separators on mixtures like those that people have: levels, overlap, noise and rooms.

    pip install pyroomacoustics
    python benchmarks/robustness.py SPEECH papez-base-8k papez-small-8k --sounds SOUNDS

SPEECH has one subfolder per speaker, none of them in the training data. Each condition has the same
mixtures for every separator: 100 of 5 s, which follow from the seed. They are drawn by the options
of mixing on the fly, so that a separator can be trained on such mixtures too, with speech, noise
and rooms of its own: SOUNDS then holds them (`--noise_folder SOUNDS/babble`, `--room_folder
SOUNDS/rooms`).

- babble: ten utterances of SPEECH played backwards at once, which is speech that nobody follows;
- hum: noise whose power falls by 3 dB an octave, and the hum of a 50 Hz supply;
- rooms: 40 impulse responses by the image method, of ten rooms of 3 x 3 x 2.5 to 8 x 6 x 3.5 m with
  reverberation times of 0.2 to 0.5 s, at 0.5 to 2 m from the microphone. The two speakers of a
  mixture are not always in the same room. The sources to be found are in the room, too.

Printed is the SI-SNRi in dB, and where one speaker is alone the leakage (dB, lower is better).
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

import papez_lobes
from papez_lobes.data.audio import write_audio
from papez_lobes.data.dynamic import DynamicMixtures
from papez_lobes.errors import UserError, one_line_errors
from papez_lobes.evaluation.leakage import leakage
from papez_lobes.files import writing
from papez_lobes.tables import format_number, markdown_table
from papez_lobes.training.losses import reorder, score

SECONDS, BATCH, SEED = 5.0, 10, 0
NOISES, NOISE_SECONDS, VOICES = 10, 20.0, 10
ROOMS, PLACES = 10, 4
CONDITIONS = {
    "as in training, -2.5 to 2.5 dB": {},
    "levels from -5 to 5 dB": {"max_gain_db": 5.0},
    "overlap of 60 to 100 %": {"overlap": (0.6, 1.0)},
    "overlap of 20 to 60 %": {"overlap": (0.2, 0.6)},
    "turns": {"turns": 1.0},
    "one speaker alone: leakage": {"single_speaker": 1.0},
    "babble, 10 to 20 dB below": {"noise_folder": "babble", "noise_snr_db": (10, 20)},
    "hum, 10 to 20 dB below": {"noise_folder": "hum", "noise_snr_db": (10, 20)},
    "hum, 0 to 10 dB below": {"noise_folder": "hum", "noise_snr_db": (0, 10)},
    "rooms": {"room_folder": "rooms"},
}


def make_sounds(mixtures: DynamicMixtures, folder: Path) -> None:
    """Write noise and impulse responses into a folder, those that are not there yet.

    Each kind appears whole or not at all. It is the same whichever kinds are there.
    """
    rng = np.random.default_rng(SEED)
    makers = {"babble": _babble, "hum": _hum, "rooms": _rooms}
    missing = [name for name in makers if not (folder / name).is_dir()]
    for name, make in makers.items():
        if not missing:
            return
        sounds = list(make(mixtures, rng))
        if name not in missing:
            continue
        with writing(folder, "--sounds"):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".", dir=folder) as aside:
                for number, samples in enumerate(sounds):
                    write_audio(Path(aside, name, f"{number}.wav"),
                                0.9 * samples / np.abs(samples).max(), mixtures.sample_rate)
                Path(aside, name).rename(folder / name)
        missing.remove(name)


def _babble(mixtures, rng):
    """Recordings of voices that speak backwards."""
    store, size = mixtures.speech, round(NOISE_SECONDS * mixtures.sample_rate)
    utterances = [each for each in store.utterances if store.level(each.path) > 0]
    if not utterances:
        raise UserError(f"{store.root}: all recordings are silent; name another folder")
    voices = min(VOICES, len(utterances))
    for _ in range(NOISES):
        total = np.zeros(size)
        for choice in rng.choice(len(utterances), voices, replace=False):
            path = utterances[choice].path
            samples = store.read(path)[0][::-1] / np.sqrt(store.level(path))
            total += np.roll(np.resize(samples, size), rng.integers(size))
        yield total


def _hum(mixtures, rng):
    """Pink noise and the harmonics of 50 Hz."""
    rate, size = mixtures.sample_rate, round(NOISE_SECONDS * mixtures.sample_rate)
    frequencies = np.fft.rfftfreq(size, 1 / rate).clip(min=20)
    for _ in range(NOISES):
        noise = np.fft.irfft(np.fft.rfft(rng.standard_normal(size)) / np.sqrt(frequencies), size)
        time = np.arange(size) / rate
        phases = rng.uniform(0, 2 * np.pi, 5)
        hum = sum(np.sin(2 * np.pi * 50 * k * time + phase) / k
                  for k, phase in enumerate(phases, start=1))
        yield noise / noise.std() + 0.5 * hum / hum.std()


def _rooms(mixtures, rng):
    """Impulse responses of rooms, by the image method."""
    try:
        import pyroomacoustics
    except ImportError as error:
        raise UserError("rooms need `pip install pyroomacoustics`") from error
    for _ in range(ROOMS):
        size = rng.uniform([3, 3, 2.5], [8, 6, 3.5])
        absorption, order = pyroomacoustics.inverse_sabine(rng.uniform(0.2, 0.5), size)
        room = pyroomacoustics.ShoeBox(
            size, mixtures.sample_rate, materials=pyroomacoustics.Material(absorption),
            max_order=order)
        microphone = rng.uniform(np.full(3, 0.5), size - 0.5)
        while len(room.sources) < PLACES:
            place = rng.uniform(np.full(3, 0.5), size - 0.5)
            if 0.5 <= np.linalg.norm(place - microphone) <= 2:
                room.add_source(place)
        room.add_microphone(microphone)
        room.compute_rir()
        yield from room.rir[0]


def measure(separator, mixtures: DynamicMixtures, alone: bool) -> float:
    """Mean SI-SNRi of all mixtures, or their leakage where one speaker is `alone`; dB."""
    values = []
    for start in range(0, len(mixtures), BATCH):
        items = [mixtures[i] for i in range(start, min(start + BATCH, len(mixtures)))]
        mixture, sources = (torch.stack([item[key] for item in items])
                            for key in ("mix_sig", "sources"))
        estimates = torch.from_numpy(separator.separate_batch(mixture.numpy()))
        scores = score(estimates, sources, mixture)
        if alone:
            ordered = reorder(estimates, scores.permutation)
            values += [leakage(*(signals.numpy() for signals in item), mixtures.sample_rate)
                       for item in zip(ordered, sources, mixture)]
        else:
            values += scores.si_snr_i.mean(dim=1).tolist()
    return float(np.mean(values))


def main() -> None:
    """Print a table: conditions by separators."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("speech", help="folder with one subfolder per speaker")
    parser.add_argument("bundles", nargs="+", help="names or folders of bundles")
    parser.add_argument("--sounds", help="folder of noise and rooms, made if it is not there")
    parser.add_argument("--count", type=int, default=100, help="mixtures of each condition")
    options = parser.parse_args()
    with one_line_errors("robustness.py"), tempfile.TemporaryDirectory() as temporary:
        if options.count < 1:
            raise UserError(f"--count {options.count}: it must be 1 or more")
        separators = [papez_lobes.load(name, "cpu") for name in options.bundles]
        settings = {(each.num_speakers, each.sample_rate) for each in separators}
        if len(settings) > 1:
            raise UserError("the bundles differ in speakers or rate; compare such that do not")
        [(speakers, rate)] = settings
        sounds = Path(temporary if options.sounds is None else options.sounds)

        def draw(**rules):
            folders = {name: sounds / rules.pop(name) for name in ("noise_folder", "room_folder")
                       if name in rules}
            return DynamicMixtures(options.speech, Path(temporary, "store"), speakers, rate,
                                   options.count, SECONDS, SEED, **folders, **rules)

        make_sounds(draw(), sounds)
        rows = []
        for name, rules in tqdm(CONDITIONS.items(), "conditions", disable=None):
            mixtures = draw(**rules)
            rows.append((name, *(format_number(measure(each, mixtures, "alone" in name))
                                 for each in separators)))
    print(markdown_table(("mixtures", *(Path(name).name for name in options.bundles)), rows),
          end="")


if __name__ == "__main__":
    main()
