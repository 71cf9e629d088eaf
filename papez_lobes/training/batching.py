"""Options of the loader of training data."""

from collections.abc import Iterator

from speechbrain.dataio.sampler import DistributedSamplerWrapper, DynamicBatchSampler
from torch.utils.data import Dataset, DistributedSampler

from papez_lobes.errors import UserError

BUCKETS = 20  # groups of mixtures of similar length


class ShareOfBatches(DistributedSamplerWrapper):
    """One process's share of the batches of a sampler.

    SpeechBrain's wrapper fails if the share is a single batch, since it takes the batch's first
    index for the batch.
    """

    def __iter__(self) -> Iterator[list[int]]:
        batches = list(self.sampler)
        return (batches[index] for index in DistributedSampler.__iter__(self))


def train_loader_options(
    dataset: Dataset, options: dict, max_batch_seconds: float | None = None, seed: int = 0
) -> dict:
    """Options for `Brain.fit` of the loader of training data.

    `max_batch_seconds` of audio, padding included, are in a batch. Batches are filled with mixtures
    of similar length (SpeechBrain's dynamic batching), in another order each epoch, by `seed`.
    By default the experiment's `options` stay: batches of `batch_size` mixtures.
    """
    if max_batch_seconds is None or len(dataset) == 0:  # the Brain refuses an empty set
        return options
    if not hasattr(dataset, "data"):
        raise UserError("max_batch_seconds: mixtures made on the fly have one length; set "
                        "batch_size instead, and max_batch_seconds to null")
    seconds = [float(item["duration"]) for item in dataset.data.values()]
    if max(seconds) > max_batch_seconds:
        raise UserError(f"max_batch_seconds is {max_batch_seconds:g}: the longest mixture has "
                        f"{max(seconds):.1f} s; raise it")
    kept = {name: value for name, value in options.items() if name not in ("batch_size", "shuffle")}
    sampler = DynamicBatchSampler(
        dataset, max_batch_seconds, num_buckets=BUCKETS, lengths_list=seconds, shuffle=True,
        batch_ordering="random", seed=seed,
    )
    return kept | {"batch_sampler": sampler}
