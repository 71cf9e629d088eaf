"""The SpeechBrain Brain that trains any separator of encoder, masknet and decoder."""

import csv
import io
from pathlib import Path

import speechbrain as sb
from speechbrain.nnet.schedulers import ReduceLROnPlateau, update_learning_rate
from speechbrain.utils.distributed import if_main_process
from torch.nn.parallel import DistributedDataParallel

from papez_lobes.data.audio import write_audio, write_bytes
from papez_lobes.errors import UserError
from papez_lobes.separator import match_mixture, separate
from papez_lobes.training.losses import reorder
from papez_lobes.training.metrics import score


class Separation(sb.Brain):
    """Trains and evaluates a separator.

    It takes `self.modules` (encoder, masknet, decoder) through `papez_lobes.separator.separate`,
    so that gradients stay synchronised under distributed training, and batches of
    `papez_lobes.data.loading.separation_dataset`. From the experiment file: `loss`,
    `ponder_cost`, `lr_scheduler`, `train_logger`, `epoch_counter`, `output_folder`,
    `sample_rate`, `save_audio`.
    """

    def _wrap_distributed(self):
        """As SpeechBrain's, for modules that run item by item: their forwards, and so the
        broadcasts of buffers at each, would differ in number between processes. No separator has
        buffers that training changes."""
        super()._wrap_distributed()
        for module in self.modules.values():
            if isinstance(module, DistributedDataParallel):
                module.broadcast_buffers = False

    def compute_forward(self, batch, stage):
        """The estimates [B, T, C] of a batch, and the trace of the recurrence (or None)."""
        mixture, lengths = batch.to(self.device).mix_sig
        return separate(self.modules, mixture, lengths, return_trace=True)

    def compute_objectives(self, predictions, batch, stage):
        """The mean loss of the batch's items; outside training also keeps each item's scores."""
        estimates, trace = predictions
        mixture, lengths = batch.mix_sig
        sources = batch.sources.data
        estimates = estimates.float()  # the loss is computed in single precision whatever ran
        if trace is not None:
            self.depths.append(trace.mean_depth.item())
        if stage != sb.Stage.TRAIN:
            self._keep_scores(batch.id, estimates, sources, mixture, lengths, trace)
        if stage == sb.Stage.TEST:
            self._save_examples(batch, estimates)
        loss = self.hparams.loss(estimates, sources, lengths)
        if stage == sb.Stage.TRAIN and self.hparams.ponder_cost:
            if trace is None:
                raise UserError("ponder_cost needs a separator with a recurrence; set it to 0")
            loss = loss + self.hparams.ponder_cost * trace.ponder
        return loss.mean()

    def on_stage_start(self, stage, epoch=None):
        """Empties the stage's records."""
        self.rows, self.depths = [], []

    def on_stage_end(self, stage, stage_loss, epoch=None):
        """Logs; after validation also steps the learning rate and keeps best and last checkpoint;
        after testing writes test_results.csv."""
        stats = {"loss": stage_loss}
        if self.rows:
            stats |= {name: _mean(self.rows, name) for name in ("si_snr", "si_snr_i")}
        if self.depths:
            stats["mean_depth"] = sum(self.depths) / len(self.depths)
        if stage == sb.Stage.TRAIN:
            self.train_stats = stats
        elif stage == sb.Stage.VALID:
            lr = self._step_learning_rate(epoch, stats["loss"])
            self.hparams.train_logger.log_stats(
                {"epoch": epoch, "lr": lr}, train_stats=self.train_stats, valid_stats=stats
            )
            self.checkpointer.save_and_keep_only(
                meta={"si_snr_i": stats["si_snr_i"], "epoch": epoch}, max_keys=["si_snr_i"]
            )
        else:
            self.hparams.train_logger.log_stats(
                {"epoch loaded": self.hparams.epoch_counter.current}, test_stats=stats
            )
            self._write_results()
            self.test_stats = stats

    def _keep_scores(self, ids, estimates, sources, mixture, lengths, trace):
        scores = score(estimates, sources, mixture, lengths)
        self.permutation = scores.permutation
        for index, name in enumerate(ids):
            row = {"snt_id": name}
            for metric in ("si_snr", "si_snr_i"):
                values = getattr(scores, metric)[index].tolist()
                row[metric] = sum(values) / len(values)
                row |= {f"{metric}_s{i}": value for i, value in enumerate(values, 1)}
            if trace is not None:
                row["mean_depth"] = (trace.depth[index].sum() / trace.valid[index].sum()).item()
            self.rows.append(row)

    def _save_examples(self, batch, estimates):
        """Writes mixture, sources and estimates of the first `save_audio` test items."""
        folder = Path(self.hparams.output_folder) / "audio_results"
        wanted = self.hparams.save_audio - (len(self.rows) - len(batch.id))
        if wanted <= 0 or not if_main_process():
            return
        mixture, lengths = batch.mix_sig
        estimates = match_mixture(reorder(estimates, self.permutation), mixture)
        for index, name in list(enumerate(batch.id))[:wanted]:
            signals = {"mix": mixture[index]}
            for speaker in range(estimates.shape[2]):
                signals[f"s{speaker + 1}"] = batch.sources.data[index, :, speaker]
                signals[f"s{speaker + 1}hat"] = estimates[index, :, speaker]
            size = round(lengths[index].item() * mixture.shape[1])
            for kind, signal in signals.items():
                path = folder / f"{name}_{kind}.wav"
                write_audio(path, signal[:size].cpu().numpy(), self.hparams.sample_rate)

    def _write_results(self):
        if not if_main_process() or not self.rows:
            return
        path = Path(self.hparams.output_folder) / "test_results.csv"
        average = {"snt_id": "avg"} | {
            name: _mean(self.rows, name) for name in self.rows[0] if name != "snt_id"
        }
        stream = io.StringIO(newline="")
        writer = csv.DictWriter(stream, fieldnames=list(average))
        writer.writeheader()
        writer.writerows([*self.rows, average])
        write_bytes(path, stream.getvalue().encode())

    def _step_learning_rate(self, epoch, loss):
        """Returns the rate of the epoch that ended, and sets the next one's."""
        scheduler = self.hparams.lr_scheduler
        if isinstance(scheduler, ReduceLROnPlateau):
            current, following = scheduler([self.optimizer], epoch, loss)
        else:
            current, following = scheduler(epoch)
        update_learning_rate(self.optimizer, following)
        return current


def _mean(rows, name):
    return sum(row[name] for row in rows) / len(rows)

