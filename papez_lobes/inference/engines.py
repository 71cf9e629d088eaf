"""What computes a separation: PyTorch, or onnxruntime with the ONNX file of a bundle.

Nothing is imported here before it is used, as PyTorch takes longer to start than a short recording
to be separated.
"""

import os
import platform
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from papez_lobes.errors import UserError
from papez_lobes.inference.shipped import FILES, ONNX_FILE, bundle_folder

TORCH, ONNX = "torch", "onnx"
ENGINES = (TORCH, ONNX)
# Device files of the drivers of NVIDIA (on Windows's Linux, too) and AMD
DRIVERS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")


def engines_for_files(device: str | None, dtype: str, depth_is_set: bool) -> tuple[str, ...]:
    """The engines to try for recordings, the preferred first.

    On a CPU, onnxruntime starts sooner, needs less memory and is as fast. GPUs, other precisions
    and a mean depth are PyTorch's alone.

    Arguments
    ---------
    device : str or None
        None: a GPU, where there is one.
    dtype : str
        Precision, as in `papez_lobes.load`.
    depth_is_set : bool
        True if a mean depth or a real-time factor is wanted.

    Returns
    -------
    tuple of str

    Example
    -------
    >>> engines_for_files("cpu", "float32", False), engines_for_files("cuda", "float32", False)
    (('onnx', 'torch'), ('torch', 'onnx'))
    """
    on_cpu = device == "cpu" or (device is None and not has_accelerator())
    if on_cpu and dtype == "float32" and not depth_is_set:
        return ONNX, TORCH
    return ENGINES


def has_accelerator() -> bool:
    """True if this machine seems to have a GPU that PyTorch can use; PyTorch is not asked."""
    apple = sys.platform == "darwin" and platform.machine() == "arm64"
    return apple or any(Path(driver).exists() for driver in DRIVERS)


def usable_processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def separator_class(bundle: str | Path, engines: Sequence[str]) -> type:
    """The class that loads a bundle or an ONNX file, by the first engine that can.

    Arguments
    ---------
    bundle : str or pathlib.Path
        A bundle, the name of one of the package, or an ONNX file.
    engines : sequence of str
        The engines to try, the preferred first.

    Returns
    -------
    type
        A subclass of `papez_lobes.inference.interface.SpeechSeparation`.

    Raises
    ------
    UserError
        None of the engines can load it here.
    """
    exported = str(bundle).endswith(".onnx")
    if exported:
        engines = (ONNX,)
    folder, missing = bundle_folder(bundle), []
    has_file = all((folder / name).is_file() for name in (*FILES, ONNX_FILE))
    for engine in engines:
        if engine == ONNX and not (exported or has_file):
            continue
        try:
            if engine == TORCH:
                return import_module("papez_lobes.inference.trained").TrainedSeparator
            import_module("onnxruntime")
            return import_module("papez_lobes.runtime.separator").OnnxSeparator
        except ImportError as error:
            package = error.name or engine
            missing.append(f"the package {package} (pip install 'papez-lobes[{engine}]')")
    if not exported and not folder.is_dir():
        raise UserError(f"{bundle}: no such bundle, as there is no such folder")
    if missing:
        raise UserError(f"{bundle}: needs {' or '.join(missing)}")
    raise UserError(f"{bundle}: has no {ONNX_FILE}; `papez export {bundle}` writes it")
