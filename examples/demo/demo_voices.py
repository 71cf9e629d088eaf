"""Speech for the demo: telephone prompts of seven voices, from packages of Debian and Ubuntu.

The prompts are those of the Asterisk telephone exchange, at 8 kHz, in English, Spanish, French,
Italian and Russian. The packages are downloaded and unpacked to a cache folder. Nothing is
installed, and no administrator rights are needed.

Credits, as the packages' copyright files state them (copied beside the voices):

- asterisk-core-sounds-en-wav, -es-wav: Allison Smith (theivrvoice.com), 2003-2010, paid for by
  Digium; CC BY-SA 3.0. One woman in two languages, thus one speaker here.
- asterisk-core-sounds-fr-wav: June Wallack (junewallack.com), 2006-2008; CC BY-SA 3.0.
- asterisk-core-sounds-it-wav: Carlo Flora (carloflora.com), 2012; CC BY 3.0.
- asterisk-core-sounds-ru-wav: provided by Maxim Topal (ivrvoice.ru), 2010; CC BY 3.0.
- asterisk-prompt-it-menardi-wav: Paola Dal Zot and Marco Menardi, 2006-2011, CC BY-SA 3.0 Italy;
  made by them, more voices at http://www.voip.ammdomus.it (a credit that they ask to be shown).
- asterisk-prompt-fr-armelle: Armelle Desjardins, (C) 2006 Michel Gutierrez; BSD-like.
- asterisk-prompt-es-co: July E. Jimenez, Avatar Ltda.; GPL 2.
"""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
from tqdm import tqdm

from papez_lobes.data.audio import read_audio, write_audio
from papez_lobes.errors import UserError

VOICES = {
    "allison": ("asterisk-core-sounds-en-wav", "asterisk-core-sounds-es-wav"),
    "armelle": ("asterisk-prompt-fr-armelle",),
    "carlo": ("asterisk-core-sounds-it-wav",),
    "ivrvoice": ("asterisk-core-sounds-ru-wav",),
    "july": ("asterisk-prompt-es-co",),
    "june": ("asterisk-core-sounds-fr-wav",),
    "paola": ("asterisk-prompt-it-menardi-wav",),
}
MIN_VOICES = 4
SAMPLE_RATE = 8000
MIN_SECONDS = 0.3  # shorter prompts are single letters and beeps
NOT_SPEECH = {  # tones, and a recording of monkeys that is in every package
    "ascending-2tone", "beep", "beeperr", "confbridge-join", "confbridge-leave",
    "descending-2tone", "silence", "tt-monkeys",
}
ALTERNATIVE = "give it speech of your own: SPEECH=/folder with one subfolder per speaker"
OPTIONS = {"Acquire::Retries": "1", "Acquire::http::Timeout": "30", "APT::Sandbox::User": "root"}


def fetch_voices(cache_folder: str | Path) -> Path:
    """Download the voices that the cache does not have yet.

    The folder of a voice appears when it is complete. After an interruption, the next call
    downloads the voices that are missing.

    Arguments
    ---------
    cache_folder : str or pathlib.Path
        Where the voices are kept (about 170 MB, and as much again while fetching).

    Returns
    -------
    pathlib.Path
        A folder with one subfolder per speaker of 8 kHz wav files (see `scan_speakers`).

    Raises
    ------
    UserError
        Fewer than four voices are available, or the folder cannot be written to.
    """
    folder = Path(cache_folder).absolute() / "voices"
    missing = [voice for voice in VOICES if not (folder / voice).is_dir()]
    if missing and shutil.which("apt-get") and shutil.which("dpkg-deb"):
        scratch = folder.parent / ".fetching"
        try:
            shutil.rmtree(scratch, ignore_errors=True)  # left by a run that was killed
            folder.mkdir(parents=True, exist_ok=True)
            _fetch(missing, folder, scratch)
        except OSError as error:
            raise UserError(f"{folder}: cannot be written ({error.strerror}); "
                            "choose another folder or make room") from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    elif missing:
        print("no apt-get and dpkg-deb here to fetch voices with")
    present = [voice for voice in VOICES if (folder / voice).is_dir()]
    if len(present) < MIN_VOICES:
        raise UserError(f"{folder}: only {len(present)} of {len(VOICES)} voices can be had, and "
                        f"{MIN_VOICES} are needed; run `apt-get update` as root and check the "
                        f"network, or {ALTERNATIVE}")
    return folder


def _fetch(voices, folder, scratch):
    apt = _Apt(scratch)
    for voice in tqdm(voices, desc="fetching voices", unit="voice", disable=None):
        made = scratch / voice
        unpacked = [tree for package in VOICES[voice] if (tree := apt.unpack(package))]
        if unpacked:
            for relative, samples in distinct(_prompts(unpacked)):
                write_audio(made / relative, samples, SAMPLE_RATE)
            for notice in [path for tree in unpacked for path in tree.glob("**/copyright")]:
                shutil.copy(notice, made / f"COPYRIGHT.{notice.parent.name}")
            os.replace(made, folder / voice)
        for tree in unpacked:
            shutil.rmtree(tree)


class _Apt:
    """Downloads packages into a scratch folder, without touching the system's own state."""

    def __init__(self, scratch):
        self.scratch = scratch
        self.options = dict(OPTIONS)
        self.updated = False
        for needed in ("lists/partial", "cache/archives/partial", "debs"):
            (scratch / needed).mkdir(parents=True)

    def unpack(self, package):
        """Download and unpack a package; returns the folder, or None after printing the reason."""
        reason = self._download(package)
        tree = self.scratch / package
        if reason is None:
            (deb,) = (self.scratch / "debs").glob("*.deb")
            reason = _run(["dpkg-deb", "-x", str(deb), str(tree)], self.scratch)
            deb.unlink()
        if reason is not None:
            tqdm.write(f"skipping {package}: {reason}")
            return None
        return tree

    def _download(self, package):
        """Download a package; returns None, or the reason why it failed."""
        reason = self._apt_get("download", package)
        if reason is not None and not self.updated:
            # The system's package lists may be missing or old: fetch a set of our own.
            self.updated = True
            self.options["Dir::State::lists"] = str(self.scratch / "lists")
            self.options["Dir::Cache"] = str(self.scratch / "cache")
            self._apt_get("update")
            reason = self._apt_get("download", package) and reason
        return reason

    def _apt_get(self, *words):
        options = [word for item in self.options.items() for word in ("-o", "=".join(item))]
        return _run(["apt-get", "-q", *options, *words], self.scratch / "debs")


def _run(command, folder):
    """Run a command; returns None, or the last line that it printed if it failed."""
    done = subprocess.run(
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace", env={**os.environ, "LC_ALL": "C"},
    )
    if done.returncode == 0:
        return None
    return (done.stdout.strip().splitlines() or [f"{command[0]} failed"])[-1]


def _prompts(trees):
    """Read all files that may be speech: (path below the package's sounds, samples [T])."""
    prompts = []
    for tree in trees:
        sounds = tree / "usr/share/asterisk/sounds"
        for path in sorted([*sounds.rglob("*.wav"), *sounds.rglob("*.gsm")]):
            # Links point to prompts that are also found under their own names.
            if path.is_symlink() or NOT_SPEECH & {path.stem, path.parent.name}:
                continue
            try:
                samples = read_audio(path, SAMPLE_RATE)
            except UserError:  # one package has an empty file
                continue
            if len(samples) >= MIN_SECONDS * SAMPLE_RATE:
                prompts.append((path.relative_to(sounds).with_suffix(".wav"), samples))
    return prompts


def distinct(
    prompts: list[tuple[Path, np.ndarray]], tolerance: float = 0.1, threshold: float = 0.8
) -> list[tuple[Path, np.ndarray]]:
    """Leave out copies: the same recording under another name, perhaps cut differently.

    Otherwise a copy could be in the training set and another in the test set.

    Arguments
    ---------
    prompts : list[tuple[pathlib.Path, numpy.ndarray]]
        Name and samples [T] at 8 kHz.
    tolerance : float
        Copies may differ in length by this many seconds.
    threshold : float
        Normalised cross-correlation of the first two seconds above which two recordings are
        copies.

    Returns
    -------
    list[tuple[pathlib.Path, numpy.ndarray]]
        In order of length.

    Example
    -------
    >>> noise = np.random.default_rng(0).normal(size=(2, 9000))
    >>> prompts = [("a", noise[0]), ("b", noise[1]), ("a again", 0.98 * noise[0][200:])]
    >>> [name for name, _ in distinct(prompts)]
    ['a again', 'b']
    """
    prompts = sorted(prompts, key=lambda prompt: len(prompt[1]))
    lengths = np.array([len(samples) for _, samples in prompts])
    # Copies are about equally loud: a cheap test that avoids most correlations.
    levels = np.array([np.std(samples) for _, samples in prompts])
    reach = tolerance * SAMPLE_RATE
    spectra, kept = {}, []
    for index, (_, samples) in enumerate(prompts):
        head = samples[: 2 * SAMPLE_RATE] / max(np.linalg.norm(samples[: 2 * SAMPLE_RATE]), 1e-9)
        spectrum = np.fft.rfft(head, 4 * SAMPLE_RATE).astype(np.complex64)
        near = [
            other
            for other in kept[np.searchsorted(lengths[kept], lengths[index] - reach) :]
            if abs(levels[index] - levels[other]) < 0.1 * levels[other]
        ]
        products = (spectrum * spectra[other].conj() for other in near)
        if not any(np.abs(np.fft.irfft(product)).max() > threshold for product in products):
            kept.append(index)
            spectra[index] = spectrum
    return [prompts[index] for index in kept]
