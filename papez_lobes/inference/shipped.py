"""The files of bundles, and the bundles that come with the package. It needs no PyTorch."""

import hashlib
import re
from pathlib import Path

from papez_lobes.errors import UserError
from papez_lobes.resources import resource_folder

HYPERPARAMS = "hyperparams.yaml"
FILES = (HYPERPARAMS, "encoder.ckpt", "masknet.ckpt", "decoder.ckpt")
ONNX_FILE = "separator.onnx"  # of a bundle that is also separated without PyTorch
_SPEAKERS_LINE = re.compile(r"^num_spks: (\d+)", re.MULTILINE)


def bundle_folder(name: str | Path) -> Path:
    """The folder of a bundle, given as a path or as the name of one that comes with the package.

    Example
    -------
    >>> bundle_folder("papez-small-8k").parent.name, bundle_folder("results/mine").name
    ('pretrained', 'mine')
    """
    shipped = resource_folder("pretrained") / name
    return shipped if shipped.is_dir() and not Path(name).is_dir() else Path(name)


def shipped_bundles(num_speakers: int) -> list[str]:
    """Names of the package's bundles for a number of speakers, the largest first.

    Example
    -------
    >>> shipped_bundles(3)
    ['papez-small-8k-3spk']
    """
    sizes = {}
    for folder in resource_folder("pretrained").iterdir():
        if all((folder / name).is_file() for name in FILES):
            found = _SPEAKERS_LINE.search((folder / HYPERPARAMS).read_text(encoding="utf-8"))
            if found and int(found[1]) == num_speakers:
                sizes[folder.name] = sum(path.stat().st_size for path in folder.glob("*.ckpt"))
    return sorted(sizes, key=lambda name: (-sizes[name], name))


def candidates(bundle: str | Path | None, num_speakers: int | None) -> list[str | Path]:
    """The bundles to try, the best first.

    Example
    -------
    >>> candidates("papez-small-8k", None), candidates("fast", 3)
    (['papez-small-8k'], ['papez-small-8k-3spk'])
    """
    if bundle not in (None, "fast", "best"):
        return [bundle]
    speakers = 2 if num_speakers is None else num_speakers
    names = shipped_bundles(speakers)
    if not names:
        raise UserError(f"no bundle of this package separates {speakers} speakers; name a folder")
    return names[-1:] if bundle == "fast" else names[:1] if bundle == "best" else names


def fingerprint(folder: Path) -> str:
    """A hash of a bundle's hyperparameters and weights, which its ONNX file holds as well.

    Example
    -------
    >>> len(fingerprint(bundle_folder("papez-small-8k")))
    64
    """
    whole = hashlib.sha256()
    for name in FILES:
        whole.update((folder / name).read_bytes())
    return whole.hexdigest()
