"""Mixtures in tar shards: few large files instead of many small ones.

The shards are WebDataset's format (https://github.com/webdataset/webdataset): uncompressed tar
files in which the members of a mixture lie side by side, `<number>.json`, `<number>.mix.wav`,
`<number>.s1.wav`, ... Since they are not compressed, an index of where each member lies makes them
as good as files: any mixture is read alone, in any order, by any process, and a training resumes
exactly. Other tools stream them with WebDataset.
"""

import io
import json
import tarfile
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch.utils.data import Dataset
from tqdm import tqdm

from papez_lobes.data.audio import to_int16, write_bytes
from papez_lobes.data.mixtures.rendering import render
from papez_lobes.errors import UserError

INDEX, TABLE = "index.json", "members.npy"


def write_shards(plans, folder, sample_rate, root, version="min", per_shard=1000, each=map):
    """Render plans to shards; an interrupted call is resumed, shard by shard, by calling again.

    Arguments
    ---------
    plans : list[MixturePlan]
    folder : str or pathlib.Path
        Where `000000.tar`, `000001.tar`, ..., the index and the plans go.
    sample_rate : int
        In Hz.
    root : str or pathlib.Path
        The folder that the plans' paths are below.
    version : "min" or "max"
        See `papez_lobes.data.mixtures.rendering.render`.
    per_shard : int
        Mixtures in a shard.
    each : callable
        `map`, or one that works in several processes.

    Raises
    ------
    UserError
        The folder holds other mixtures, a source cannot be read, or nothing can be written.

    Example
    -------
    >>> from papez_lobes.data.audio import write_audio
    >>> from papez_lobes.data.mixtures.lists import plan_utterances
    >>> folder = getfixture("tmp_path")
    >>> for name in ("ann/1.wav", "bob/2.wav"):
    ...     write_audio(folder / name, np.random.default_rng(0).normal(0, 0.1, 4000), 8000)
    >>> plan = plan_utterances(["ann/1.wav", "bob/2.wav"], [0.5, -0.5])
    >>> write_shards([plan], folder / "shards", 8000, folder)
    >>> sorted(path.name for path in (folder / "shards").iterdir())
    ['000000.tar', 'index.json', 'members.npy', 'plans.jsonl']
    >>> ShardedMixtures(folder / "shards", 2, 8000)[0]["sources"].shape
    torch.Size([4000, 2])
    """
    folder = Path(folder)
    settings = {"sample_rate": sample_rate, "version": version, "per_shard": per_shard,
                "num_spks": len(plans[0].sources), "mixtures": len(plans)}
    _keep(plans, settings, folder)
    for leftover in folder.glob(".*.tmp"):  # of a run that was killed
        leftover.unlink()
    numbers = range(0, len(plans), per_shard)
    shards = [folder / f"{number:06d}.tar" for number in range(len(numbers))]
    missing = [(shard, first) for shard, first in zip(shards, numbers) if not shard.exists()]
    work = [(shard, first, plans[first : first + per_shard]) for shard, first in missing]
    for _ in tqdm(each(partial(_write_shard, sample_rate, root, version), work),
                  f"mixing to {folder.name}", len(shards), unit="shard",
                  initial=len(shards) - len(missing), disable=None):
        pass
    sizes = {shard.name: shard.stat().st_size for shard in shards}
    stream = io.BytesIO()
    np.save(stream, np.concatenate([_members(number, shard, settings["num_spks"])
                                    for number, shard in enumerate(shards)]))
    write_bytes(folder / TABLE, stream.getvalue())
    write_bytes(folder / INDEX, json.dumps(settings | {"shards": sizes}, indent=1).encode())


def _keep(plans, settings, folder):
    """Keep the plans beside the shards, or refuse if there are shards of others."""
    lines = [json.dumps(settings), *(plan.to_json() for plan in plans)]
    text = "".join(f"{line}\n" for line in lines).encode()
    kept = folder / "plans.jsonl"
    if any(folder.glob("*.tar")) and (not kept.exists() or kept.read_bytes() != text):
        raise UserError(f"{folder}: holds shards of another plan (other list, seed, count, "
                        "seconds, rate or speakers); repeat that one's settings, or choose a "
                        "new folder")
    write_bytes(kept, text)


def _write_shard(sample_rate, root, version, work):
    shard, first, plans = work
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for number, plan in enumerate(plans, first):
            mixture, sources = render(plan, sample_rate, root, version)
            _add(tar, f"{number:09d}.json", json.dumps({"id": plan.name}).encode())
            for part, samples in zip(_parts(sources.shape[1]), [mixture, *sources.T]):
                _add(tar, f"{number:09d}.{part}.wav", _wav(samples, sample_rate))
    write_bytes(shard, content.getbuffer())


def _add(tar, name, content):
    member = tarfile.TarInfo(name)  # without a time: same plan, same bytes
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _wav(samples, sample_rate):
    stream = io.BytesIO()
    soundfile.write(stream, to_int16(samples), sample_rate, format="WAV", subtype="PCM_16")
    return stream.getvalue()


def _parts(num_spks):
    return ["mix", *(f"s{number}" for number in range(1, num_spks + 1))]


def _members(number, shard, num_spks):
    """[mixtures of the shard, 2 + C, 3]: shard, offset and size of json, mix, s1, ..."""
    with tarfile.open(shard) as tar:
        rows = [(number, member.offset_data, member.size) for member in tar]
    return np.array(rows, np.int64).reshape(-1, 2 + num_spks, 3)


class ShardedMixtures(Dataset):
    """The mixtures of a folder of shards, as items of `papez_lobes.data.datasets`'s datasets.

    Arguments
    ---------
    folder : str or pathlib.Path
        As `write_shards` left it.
    num_spks : int
        Speakers C.
    sample_rate : int
        Hz.
    segment_seconds : float, optional
        A random segment of this length, by (seed, epoch, mixture); shorter items are taken whole.
    seed : int
        Non-negative.

    Raises
    ------
    UserError
        There are no shards, they have changed, or hold other mixtures than asked for.
    """

    def __init__(self, folder, num_spks, sample_rate, segment_seconds=None, seed=0):
        self.folder = Path(folder)
        try:
            index = json.loads((self.folder / INDEX).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{folder}: holds no shards that were finished; make them with "
                            "papez mix --shards") from error
        for name, wanted in (("num_spks", num_spks), ("sample_rate", sample_rate)):
            if index[name] != wanted:
                raise UserError(f"{folder}: its mixtures are of {name} {index[name]}, not {wanted}")
        for name, size in index["shards"].items():
            shard = self.folder / name
            if not shard.is_file() or shard.stat().st_size != size:
                raise UserError(f"{shard}: is missing or has changed; copy it again, or make the "
                                "shards anew in an empty folder")
        self.shards, self.count = list(index["shards"]), index["mixtures"]
        self.sample_rate, self.segment_seconds, self.seed = sample_rate, segment_seconds, seed
        self._epoch = torch.ones((), dtype=torch.long).share_memory_()  # with workers that persist
        self._members = None

    def set_epoch(self, epoch):
        """Draw the segments of that epoch (1-based) from now on, in all workers."""
        self._epoch.fill_(epoch)

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if self._members is None:  # a map of the file, which all processes share
            self._members = np.load(self.folder / TABLE, mmap_mode="r")
        (shard, begin, size), *wavs = self._members[index].tolist()
        last = wavs[-1]
        with open(self.folder / self.shards[shard], "rb") as file:
            file.seek(begin)
            content = file.read(last[1] + last[2] - begin)
        name = json.loads(content[:size])["id"]
        signals = [_decode(content[at - begin : at - begin + size]) for _, at, size in wavs]
        start, stop = self._segment(name, len(signals[0]))
        signals = [torch.from_numpy(signal[start:stop]) for signal in signals]
        return {"id": name, "mix_sig": signals[0], "sources": torch.stack(signals[1:], dim=-1)}

    def _segment(self, name, frames):
        wanted = frames
        if self.segment_seconds is not None:
            wanted = min(frames, int(self.segment_seconds * self.sample_rate))
        rng = np.random.default_rng((self.seed, int(self._epoch), zlib.crc32(name.encode())))
        start = int(rng.integers(frames - wanted + 1))
        return start, start + wanted


def _decode(content):
    return soundfile.read(io.BytesIO(content), dtype="float32")[0]

