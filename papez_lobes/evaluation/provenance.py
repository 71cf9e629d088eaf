"""Provenance of an evaluation: what one needs to repeat it."""

import hashlib
import platform
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from papez_lobes import __version__

PACKAGES = ("torch", "speechbrain", "hyperpyyaml", "mir_eval", "pesq", "pystoi")


def provenance(bundle: str | Path | None = None, **settings: object) -> dict:
    """Collect time, versions, threads, settings, and the path and hash of a bundle if any."""
    versions = {"python": platform.python_version(), "papez-lobes": __version__}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    about = {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": versions, "threads": torch.get_num_threads(), **settings,
    }
    if bundle is not None:
        about |= {"bundle": str(bundle), "bundle_sha256": hash_bundle(bundle)}
    return about


def hash_bundle(folder: str | Path) -> str:
    """SHA-256 of the names and contents of a bundle's files (`hyperparams.yaml` and `.ckpt`)."""
    digest = hashlib.sha256()
    for path in sorted(Path(folder).glob("*")):
        if path.suffix in (".yaml", ".ckpt"):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
