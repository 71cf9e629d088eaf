"""Comparison of models, measured in one process and in turns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from tqdm import tqdm

from papez_lobes.errors import UserError
from papez_lobes.inference.compute_budget import depth_spread
from papez_lobes.profiling.cost import count_macs, peak_bytes, peak_in_child
from papez_lobes.profiling.mixtures import make_mixture
from papez_lobes.profiling.models import Model, ModelSpec, build_model
from papez_lobes.profiling.timing import time_interleaved
from papez_lobes.training.losses import pit_si_snr_loss


@dataclass
class Comparison:
    """Measurements of some models on a device, in interleaved rounds.

    `recordings` are those of `make_mixture`, and `rounds` of `time_interleaved`. With `memory`,
    peaks of memory are measured too. `warn` is called with one line for a model that cannot be
    built or run, which `problems` keeps. `separate` and `train` append to `results`: `model`,
    `kind`, `task`, `seconds`, `dtype`, `threads`, `device`, `rtf` (real-time factor: median;
    `rtf_min`, `rtf_max`), `audio_seconds_per_second`, `params`, and for separations `mean_depth`,
    `depth_sd`, `depth_p10`, `depth_p90`, `halting_bias`, `macs_per_second` and `peak_bytes`.
    """

    models: list[Model]
    recordings: Sequence[str] = ()
    device: str = "cpu"
    rounds: int = 5
    memory: bool = True
    warn: Callable[[str], object] = tqdm.write
    results: list[dict] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def build(self, specs: Sequence[ModelSpec]) -> None:
        """Build models and append them; those that cannot be built are left out."""
        for spec in specs:
            try:
                self.models.append(build_model(spec, self.device))
            except UserError as error:
                self.note(f"{spec.model} cannot be built: {error}")

    def note(self, problem: str) -> None:
        """Keep a line about what was left out, and warn of it once."""
        if problem not in self.problems:
            self.problems.append(problem)
            self.warn(problem)

    def separate(self, seconds: float, dtype: str, threads: Sequence[int]) -> None:
        """Measure separations of so many seconds of audio, see `lower_precision` for `dtype`.

        Times are measured with each number of threads; depth, operations and memory with the
        largest.
        """
        torch.set_num_threads(max(threads))
        with torch.inference_mode():
            models = self._lowered(dtype)
            mixtures = {model: self._mixture(model, seconds) for model in models}
            costs = self._each(
                models, lambda model: self._cost(model, mixtures[model], dtype, max(threads))
            )
            runs = {model: lambda model=model: model(mixtures[model]) for model in costs}
            self._time(runs, "separate", seconds, dtype, threads, costs)

    def train(self, seconds: float, dtype: str, threads: Sequence[int]) -> None:
        """Measure training steps (forward, PIT loss, backward) of one mixture."""
        torch.set_num_threads(max(threads))
        # Copies and data are made outside of inference mode: otherwise they cannot be trained on.
        models = self._lowered(dtype)
        with torch.inference_mode():
            models = self._each(models, lambda m: m.set_depth(self._mixture(m, seconds)))
        data = {model: self._training_pair(model, seconds) for model in models}
        steps = {model: lambda model=model: _training_step(model, *data[model]) for model in data}
        able = self._each(steps, lambda model: steps[model]())
        runs = {model: steps[model] for model in able}
        self._time(runs, "train", seconds, dtype, threads, {model: {} for model in runs})

    def _time(self, runs, task, seconds, dtype, threads, costs):
        """Time functions of models with each number of threads, and append their results."""
        for count in threads:
            times = time_interleaved(runs, self.rounds, count)
            for model, measured in times.items():
                self.results.append({
                    "model": model.spec.model, "kind": model.spec.kind, "task": task,
                    "seconds": seconds, "dtype": dtype, "threads": count,
                    "device": str(self.device), "rtf": measured.median / seconds,
                    "rtf_min": min(measured.times) / seconds,
                    "rtf_max": max(measured.times) / seconds,
                    "audio_seconds_per_second": seconds / measured.median,
                    "params": model.params, "mean_depth": None, "macs_per_second": None,
                    "peak_bytes": None, **costs[model],
                })

    def _cost(self, model, mixture, dtype, threads):
        """What a separation costs apart from time."""
        seconds = mixture.shape[1] / model.sample_rate
        bias = model.set_depth(mixture)
        estimates, trace = model(mixture)
        if not estimates.isfinite().all():
            self.note(f"{model.spec.model}: {dtype}, {seconds:g} s: not finite")
        peak, device = None, torch.device(self.device).type
        if self.memory and device == "cuda":
            peak = peak_bytes(lambda: model(mixture), lambda: model(mixture), self.device)
        if self.memory and device == "cpu":
            peak = peak_in_child(model.spec, seconds, dtype, threads, bias, self.recordings)
        macs = count_macs(lambda: model(mixture)) / seconds
        costs = {"macs_per_second": macs, "halting_bias": bias, "peak_bytes": peak}
        if trace is None:
            names = ("mean_depth", "depth_sd", "depth_p10", "depth_p90")
            return costs | dict.fromkeys(names)
        spread = depth_spread(trace)
        return costs | {"mean_depth": spread.mean, "depth_sd": spread.sd,
                        "depth_p10": spread.quantiles[0.1], "depth_p90": spread.quantiles[0.9]}

    def _lowered(self, dtype):
        copies = self._each(self.models, lambda model: model.lowered(dtype, self.device))
        return list(copies.values())

    def _each(self, models, function):
        """Model -> result of the function; a model for which it fails is left out."""
        results = {}
        for model in models:
            try:
                results[model] = function(model)
            except Exception as error:  # of any kind, from other people's models
                line = " ".join(str(error).split())[:200]
                self.note(f"{model.spec.model} cannot run: {type(error).__name__}: {line}")
        return results

    def _mixture(self, model, seconds):
        samples = make_mixture(seconds, model.sample_rate, self.recordings)
        return torch.from_numpy(samples).unsqueeze(0).to(self.device)

    def _training_pair(self, model, seconds):
        """Mixture [1, T] and sources [1, T, C]; the model is put into training mode."""
        mixture = self._mixture(model, seconds)
        with torch.no_grad():
            speakers = model(mixture[:, : model.sample_rate // 4])[0].shape[-1]
        model.train()
        # Any signals that differ will do as sources: the loss takes the same time.
        shifts = [mixture.shape[1] * index // speakers for index in range(speakers)]
        return mixture, torch.stack([mixture.roll(shift, 1) for shift in shifts], dim=-1)


def _training_step(model, mixture, sources):
    estimates, _ = model(mixture)
    pit_si_snr_loss(estimates.float(), sources).mean().backward()
    model.zero_grad()
