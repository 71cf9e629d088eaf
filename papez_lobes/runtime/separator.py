"""A separator that onnxruntime runs."""

import os
import re
from pathlib import Path

import numpy as np

from papez_lobes.errors import UserError
from papez_lobes.inference.engines import usable_processors
from papez_lobes.inference.interface import SpeechSeparation
from papez_lobes.inference.shipped import ONNX_FILE, bundle_folder, fingerprint
from papez_lobes.scaling import match_mixture

FORMAT = 1  # of the files that `papez export` writes
BUDGET = {"max_depth": np.int64, "halting_threshold": np.float32, "halting_bias": np.float32}


class OnnxSeparator(SpeechSeparation):
    """A separator in an ONNX file, which `papez export` has written.

    Arguments
    ---------
    path : str or pathlib.Path
        The file.
    max_depth : int, optional
        Greatest number of steps that a token may run. None: the file's.
    halting_threshold : float, optional
        In (0, 1]; tokens halt earlier with a lower threshold. None: the file's.
    halting_bias : float, optional
        Added to the halting logit; tokens halt earlier with a higher bias. None: the file's.
    threads : int, optional
        Threads that compute. None: OMP_NUM_THREADS, or one per core that this process may use.

    Raises
    ------
    UserError
        onnxruntime is not installed, the file cannot be read, or a setting is out of its range.
    """

    engine = "onnx"

    def __init__(
        self, path: str | Path, max_depth: int | None = None,
        halting_threshold: float | None = None, halting_bias: float | None = None,
        threads: int | None = None,
    ):
        self._session = _open_session(path, threads)
        self.metadata = _read_metadata(self._session, path)
        super().__init__(
            str(path), int(self.metadata["sample_rate"]), int(self.metadata["num_spks"]))
        outputs = [output.name for output in self._session.get_outputs()]
        self._gives_depth = "depth" in outputs
        given = dict(zip(BUDGET, (max_depth, halting_threshold, halting_bias)))
        self._budget = self._checked({k: v for k, v in given.items() if v is not None})

    @classmethod
    def load(
        cls, bundle: str | Path, device: object = None, dtype: str = "float32",
        overrides: dict | None = None, trust: bool = False,
    ) -> "OnnxSeparator":
        """Load an ONNX file, or that of a bundle, see `papez_lobes.load`."""
        unknown = sorted(set(overrides or {}) - set(BUDGET))
        if unknown:
            raise UserError(f"{bundle}: {unknown[0]} is fixed in an ONNX file; export another one")
        if dtype != "float32" or str(device) not in ("None", "cpu"):
            raise UserError(f"{bundle}: an ONNX file runs on the CPU in its own precision; another "
                            "device or dtype needs PyTorch and a bundle")
        if str(bundle).endswith(".onnx"):
            return cls(bundle, **overrides or {})
        folder = bundle_folder(bundle)
        separator = cls(folder / ONNX_FILE, **overrides or {})
        if separator.metadata.get("bundle_sha256") != fingerprint(folder):
            raise UserError(f"{separator.path}: is not of the weights beside it; run: papez export "
                            f"{bundle} --overwrite")
        return separator

    def _checked(self, budget):
        """The budget as inputs of the session."""
        if budget and not self._gives_depth:
            raise UserError(
                f"{self.path}: has no recurrence, so {next(iter(budget))} cannot be set")
        if not budget.get("max_depth", 1) >= 1:
            raise UserError(f"max_depth is {budget['max_depth']}: it must be at least 1")
        steps = re.search(r"^num_steps: (\d+)", self.metadata.get("separator", ""), re.MULTILINE)
        if steps and budget.get("max_depth", 1) > int(steps[1]):
            raise UserError(f"max_depth is {budget['max_depth']}: it must be between 1 and "
                            f"num_steps, {steps[1]}")
        if not 0 < budget.get("halting_threshold", 1) <= 1:
            raise UserError(
                f"halting_threshold is {budget['halting_threshold']}: it must be in (0, 1]")
        return {key: np.asarray(value, BUDGET[key]) for key, value in budget.items()}

    def estimate(self, mixture: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Separate one mixture, and tell how deep each token went.

        Arguments
        ---------
        mixture : numpy.ndarray
            [T], float32, T >= 1.

        Returns
        -------
        estimates : numpy.ndarray
            [T, C], float32, of any scale and sign.
        depth : numpy.ndarray or None
            [L], int64: steps that each token ran. None if the separator has no recurrence.
        """
        inputs = {"mixture": np.asarray(mixture, np.float32)[np.newaxis], **self._budget}
        estimates, *depth = self._session.run(None, inputs)
        return estimates[0], depth[0][0] if depth else None

    def separate_with_depth(self, mixtures: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Separate mixtures one by one; see `SpeechSeparation.separate_with_depth`."""
        mixtures = np.asarray(mixtures, np.float32)
        if mixtures.ndim != 2 or mixtures.shape[1] < 1:
            raise ValueError(f"mixtures are {list(mixtures.shape)}: they must be [B, T], T >= 1")
        estimates, depths = zip(*(self.estimate(mixture) for mixture in mixtures))
        matched = match_mixture(np.stack(estimates), mixtures)
        return matched, np.stack(depths) if self._gives_depth else None


def _open_session(path, threads):
    """An onnxruntime session of a file."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(
            "onnxruntime is not installed; run: pip install 'papez-lobes[onnx]'") from error
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file; name one that `papez export` has written")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is wrong with a file is said below, in one line
    options.intra_op_num_threads = threads or default_threads()
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common base
        reason = "not an ONNX file, or a damaged or truncated one; export it again"
        if "opset" in str(error) or "IR version" in str(error):
            reason = f"is newer than onnxruntime {onnxruntime.__version__}; install a newer one"
        raise UserError(f"{path}: {reason}") from error


def default_threads() -> int:
    """As many threads as PyTorch would use: OMP_NUM_THREADS, or one per core of this process."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return int(wanted) if wanted.isdecimal() else usable_processors()


def _read_metadata(session, path):
    """The metadata of a file of a format that is known."""
    metadata = session.get_modelmeta().custom_metadata_map
    if "papez_format" not in metadata:
        raise UserError(f"{path}: an ONNX file that `papez export` has not written; export one")
    if int(metadata["papez_format"]) > FORMAT:
        raise UserError(f"{path}: is of format {metadata['papez_format']}, and this version reads "
                        f"up to {FORMAT}; install a newer papez-lobes")
    return metadata
