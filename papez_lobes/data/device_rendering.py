"""Batches of mixtures made in torch, on a GPU or wherever: `render` for many plans at once.

The host only decodes; resampling, rooms, levels, gains and sums run on the device, on all sources
of a batch together, and nothing is waited for.
"""

from dataclasses import dataclass
from math import gcd

import numpy as np
import torch
from speechbrain.dataio.batch import PaddedData
from torch.nn import functional as F

from papez_lobes.data.device_levels import active_speech_levels
from papez_lobes.data.rendering import LEVEL_RATE, PEAK, SILENCE, record, record_source
from papez_lobes.data.resampling import ZERO_CROSSINGS, _low_pass


@dataclass(frozen=True)
class Recorded:
    """A plan with its decoded recordings, in float32: all that rendering it takes.

    Arguments
    ---------
    plan : papez_lobes.data.mixing.MixturePlan
        The plan.
    sources : list of (list, list or None)
        Of each source the recordings of its pieces and of its room, each
        (seconds of silence before it, samples [T], their rate in Hz).
    noise : list
        Recordings of the noise.
    """

    plan: object
    sources: list
    noise: list

    @property
    def peak(self):
        """The loudest sample of the quietest source's recordings."""
        return min(max(np.abs(samples).max(initial=0) for _, samples, _ in speech)
                   for speech, _ in self.sources)


class RecordedBatch:
    """A batch that is rendered when it is moved to a device.

    Then it has what `papez_lobes.training.brain.Separation` takes: `id`, `mix_sig` and `sources`
    (SpeechBrain's PaddedData).

    Arguments
    ---------
    items : list of Recorded
        The plans, of one number of speakers.
    sample_rate : int
        In Hz.
    """

    def __init__(self, items, sample_rate):
        self.items, self.sample_rate = items, sample_rate
        self.id = [item.plan.name for item in items]
        self.mix_sig = self.sources = None

    def __len__(self):
        return len(self.items)

    def to(self, device):
        """Render there, in single precision whatever context the training computes in."""
        with torch.no_grad(), torch.autocast(torch.device(device).type, enabled=False):
            mixtures, sources, lengths = render_batch(self.items, self.sample_rate, device)
        relative = torch.tensor(lengths, device=device) / mixtures.shape[1]
        self.mix_sig, self.sources = PaddedData(mixtures, relative), PaddedData(sources, relative)
        return self


def record_plan(plan, read):
    """Read what a plan names; `read` as for `papez_lobes.data.rendering.render`."""
    sources = [record_source(source, read) for source in plan.sources]
    narrow = [(_narrow(speech), room and _narrow(room)) for speech, room in sources]
    return Recorded(plan, narrow, _narrow(record("noises", plan.noise, read)))


def render_batch(batch, sample_rate, device="cpu"):
    """Make the samples of a batch of plans, each cut to its shortest source ("min").

    Arguments
    ---------
    batch : list of Recorded
        Of one number of sources C.
    sample_rate : int
        In Hz.
    device : str or torch.device
        Where everything is computed, in float32.

    Returns
    -------
    mixtures : torch.Tensor
        [B, T], on the device, zero beyond each item's length: exactly the sum of the sources, and
        of the noise if there is any.
    sources : torch.Tensor
        [B, T, C]. Both within 1e-5 of those of `papez_lobes.data.rendering.render`, whose loudest
        sample is 0.9. A source without any active level stays silent (`render` refuses it).
    lengths : list of int
        Samples of each item.

    Example
    -------
    >>> import numpy as np
    >>> from papez_lobes.data.mixing import MixturePlan, Piece, SourcePlan
    >>> noise = np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32)
    >>> sources = [SourcePlan(name, 0.0, (Piece(name),)) for name in ("ann", "bob")]
    >>> recorded = record_plan(MixturePlan("a", None, tuple(sources)), lambda *piece: (noise, 8000))
    >>> mixtures, sources, lengths = render_batch([recorded], 8000)
    >>> mixtures.shape, sources.shape, round(mixtures.abs().max().item(), 3)
    (torch.Size([1, 8000]), torch.Size([1, 8000, 2]), 0.9)
    """
    speakers = len(batch[0].sources)
    parts = [source for item in batch for source in item.sources]
    samples, sizes = _render_sources(parts, sample_rate, device)
    narrow, narrow_sizes = samples, sizes
    if sample_rate != LEVEL_RATE:
        narrow, narrow_sizes = _render_sources(parts, LEVEL_RATE, device)
    powers = active_speech_levels(narrow, torch.tensor(narrow_sizes, device=device), LEVEL_RATE)
    gains = torch.tensor([source.gain_db for item in batch for source in item.plan.sources])
    gains = 10 ** (gains.to(device) / 20) * powers.clamp(min=SILENCE).rsqrt()
    gains = torch.where(powers > SILENCE, gains, 0.0)
    lengths = _lengths(batch, sizes, speakers, sample_rate)
    sources = (samples * gains.unsqueeze(1)).unflatten(0, (-1, speakers))[..., : max(lengths)]
    counts = torch.tensor(lengths, device=device).unsqueeze(1)
    outside = torch.arange(max(lengths), device=device) >= counts  # [B, T]
    sources = sources.masked_fill(outside.unsqueeze(1), 0)
    speech = sources.sum(dim=1)
    noise = _render_noise(batch, speech, counts, sample_rate).masked_fill(outside, 0)
    peak = torch.maximum(sources.abs().amax((1, 2)), (speech + noise).abs().amax(1))
    scale = (PEAK / peak.clamp(min=torch.finfo(peak.dtype).tiny)).unsqueeze(1)
    sources, noise = sources * scale.unsqueeze(1), noise * scale
    return sources.sum(dim=1) + noise, sources.transpose(1, 2), lengths


def _lengths(batch, sizes, speakers, sample_rate):
    """As `render` cuts them."""
    lengths = [min(sizes[i : i + speakers]) for i in range(0, len(sizes), speakers)]
    for index, item in enumerate(batch):
        if item.plan.seconds is not None:
            lengths[index] = min(lengths[index], round(item.plan.seconds * sample_rate))
    return lengths


def _render_sources(parts, sample_rate, device):
    """[n, T] speech in its rooms, not yet levelled, and the samples of each."""
    samples, sizes = _string([speech for speech, _ in parts], sample_rate, device)
    heard = [index for index, (_, room) in enumerate(parts) if room is not None]
    if heard:
        rooms, _ = _string([parts[index][1] for index in heard], sample_rate, device)
        samples[heard] = _in_rooms(samples[heard], rooms)
        inside = torch.arange(samples.shape[1], device=device)
        samples = samples * (inside < torch.tensor(sizes, device=device).unsqueeze(1))
    return samples, sizes


def _in_rooms(samples, responses):
    """[n, T] through [n, L], whose loudest paths arrive without delay."""
    size, direct = samples.shape[1], responses.abs().argmax(dim=1, keepdim=True)
    points = size + responses.shape[1]
    spectrum = torch.fft.rfft(samples, points) * torch.fft.rfft(responses, points)
    wet = torch.fft.irfft(spectrum, points)
    return wet.gather(1, direct + torch.arange(size, device=samples.device))


def _render_noise(batch, speech, counts, sample_rate):
    """[B, T]: each item's noise at its SNR to its speech, or zeros."""
    noisy = [index for index, item in enumerate(batch) if item.noise]
    noise = torch.zeros_like(speech)
    if not noisy:
        return noise
    samples, _ = _string([batch[index].noise for index in noisy], sample_rate, speech.device)
    samples = F.pad(samples, (0, max(0, speech.shape[1] - samples.shape[1])))
    inside = torch.arange(speech.shape[1], device=speech.device) < counts[noisy]
    samples = samples[:, : speech.shape[1]] * inside
    decibels = torch.tensor([batch[index].plan.noise_snr_db for index in noisy])
    ratio = 10 ** (-decibels.to(speech.device) / 10)
    power = samples.square().sum(1).clamp(min=torch.finfo(speech.dtype).tiny)
    gains = (speech[noisy].square().sum(1) / power * ratio).sqrt()
    noise[noisy] = samples * gains.unsqueeze(1)
    return noise


def _string(recordings, sample_rate, device):
    """[n, T]: each one's pauses and recordings in a row, and the samples of each."""
    by_rate = {}
    for index, pieces in enumerate(recordings):
        for place, (_, samples, rate) in enumerate(pieces):
            by_rate.setdefault(rate, []).append((index, place, samples))
    ready = {}
    for rate, group in by_rate.items():
        tensors = [torch.from_numpy(samples) for _, _, samples in group]
        rows = torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True)
        rows = _resample(rows.to(device, non_blocking=True), rate, sample_rate)
        for row, (index, place, samples) in zip(rows, group):
            ready[index, place] = row[: -(-len(samples) * sample_rate // rate)]
    strings = []
    for index, pieces in enumerate(recordings):
        parts = []
        for place, (pause, _, _) in enumerate(pieces):
            parts += [torch.zeros(round(pause * sample_rate), device=device), ready[index, place]]
        strings.append(torch.cat(parts))
    return torch.nn.utils.rnn.pad_sequence(strings, batch_first=True), [len(s) for s in strings]


def _resample(samples, from_rate, to_rate):
    """`papez_lobes.data.resampling.resample` of a batch [n, T], zero beyond each item's length:
    a convolution with one channel per phase of the output."""
    if from_rate == to_rate:
        return samples
    common = gcd(from_rate, to_rate)
    up, down = to_rate // common, from_rate // common
    half = ZERO_CROSSINGS * max(up, down)
    # out[j * up + phase] = sum over i of in[j * down + i] * taps[half + phase * down - i * up]
    first, last = -(half // up), ((up - 1) * down + half) // up
    steps = torch.arange(first, last + 1)
    places = half + torch.arange(up).unsqueeze(1) * down - steps * up
    taps = torch.from_numpy(_low_pass(max(up, down)) * up).float()
    kernel = torch.where((places >= 0) & (places <= 2 * half), taps[places.clamp(0, 2 * half)], 0.0)
    size = -(-samples.shape[1] * up // down)
    frames = -(-size // up)
    behind = (frames - 1) * down + last + 1 - samples.shape[1]
    padded = F.pad(samples, (-first, max(0, behind))).unsqueeze(1)
    phases = F.conv1d(padded, kernel.to(samples).unsqueeze(1), stride=down)  # [n, up, frames]
    return phases[:, :, :frames].transpose(1, 2).flatten(1)[:, :size]


def _narrow(recordings):
    """The same in float32: half of what goes to the device."""
    return [(pause, samples.astype("float32"), rate) for pause, samples, rate in recordings]
