"""The SpeechBrain Brain that trains separators."""

import math
import time
from pathlib import Path

import speechbrain as sb
import torch
import yaml
from speechbrain.dataio.batch import PaddedBatch
from speechbrain.dataio.sampler import DistributedSamplerWrapper
from speechbrain.nnet.schedulers import ReduceLROnPlateau, update_learning_rate
from speechbrain.utils import checkpoints
from speechbrain.utils.distributed import if_main_process, run_on_main
from speechbrain.utils.logger import get_logger
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

from papez_lobes.errors import UserError
from papez_lobes.fast.malloc import keep_freed_memory
from papez_lobes.lengths import to_counts
from papez_lobes.training.batching import ShareOfBatches
from papez_lobes.training.logs import TensorBoard, drop_epochs_after
from papez_lobes.training.losses import score

logger = get_logger(__name__)  # SpeechBrain's: of the main process alone
STEPS_PER_EPOCH = 10**9  # more than any epoch has, so that no two steps share a seed
# Attributes that checkpoints hold besides SpeechBrain's.
KEPT = ("depths", "counted", "skipped", "audio_seconds", "decay_start")


@checkpoints.register_checkpoint_hooks
class Separation(sb.Brain):
    """Train a separator, and validate it after each epoch.

    The one module, `separator`, is a `papez_lobes.separator.Separator`. Batches are those of
    `papez_lobes.data.datasets.SeparationDataset`. These hyperparameters of the experiment file are
    used: `loss`, `ponder_cost`, `loss_threshold`, `step_schedule`, `average`, `epoch_counter`,
    `lr_scheduler`, `train_logger`, `train_log`, `train_curve`, `tensorboard`, `output_folder`,
    `sample_rate` and `seed`. Testing is left to `papez_lobes.evaluation`.
    """

    # made by `fit`
    train_data = train_loader = None
    board = None
    saved_batches = None  # of the checkpoint that was loaded, see `_batches`
    # over all processes and earlier runs
    audio_seconds = 0.0  # of mixtures trained on so far
    decay_start = None  # hours of audio at which the learning rate began to fall
    # of the current stage
    depths = ()  # mean depth of each batch
    example = None  # (mixture, sources, estimates) of one validation item
    counted = 0  # steps whose loss is in the mean
    skipped = 0  # steps without a finite gradient

    def _wrap_distributed(self):
        """Like SpeechBrain's, but buffers, which no training changes, are not broadcast."""
        super()._wrap_distributed()
        for module in self.modules.values():
            if isinstance(module, DistributedDataParallel):
                module.broadcast_buffers = False

    def _compile(self):
        """For `--compile`: compile the parts that the mask network states.

        (SpeechBrain would compile the whole separator, anew for each depth.)
        """
        if not self.compile:
            return
        separator = getattr(self.modules.separator, "module", self.modules.separator)
        parts = getattr(separator.masknet, "compilable", None)
        if parts is None:
            raise UserError("--compile is for Papez's separators; leave it out")
        for part in parts:
            part.compile()
        torch.compiler.set_stance("force_eager")  # but for training, see `on_stage_start`

    def make_dataloader(
        self, dataset: Dataset | DataLoader, stage: sb.Stage, *arguments, **options
    ) -> DataLoader:
        """Like `Brain.make_dataloader`; raises UserError where an epoch would have no step."""
        if len(dataset) == 0:
            raise UserError(f"{stage.name.lower()}: the data set has no mixture; add some, or let "
                            "the manifests be made again (skip_prep: False)")
        options.setdefault("collate_fn", getattr(dataset, "collate", PaddedBatch))
        options.setdefault("pin_memory", torch.device(self.device).type == "cuda")
        loader = super().make_dataloader(dataset, stage, *arguments, **options)
        if stage == sb.Stage.TRAIN:
            self.train_data, self.train_loader = dataset, loader
            batches = min(len(loader), self.debug_batches) if self.debug else len(loader)
            if batches < self.grad_accumulation_factor:
                raise UserError(f"training cannot begin: an epoch of {batches} batches has no step "
                                f"where --grad_accumulation_factor is "
                                f"{self.grad_accumulation_factor}; lower that, or batch_size")
        return loader

    def _train_loader_specifics(self, dataset, loader_kwargs):
        """Like SpeechBrain's, with `ShareOfBatches` as its wrapper of batch samplers."""
        loader_kwargs = super()._train_loader_specifics(dataset, loader_kwargs)
        wrapper = loader_kwargs.get("batch_sampler")
        if isinstance(wrapper, DistributedSamplerWrapper):
            self.train_sampler = ShareOfBatches(
                wrapper.sampler, rank=self.rank, shuffle=wrapper.shuffle)
            loader_kwargs["batch_sampler"] = self.train_sampler
        return loader_kwargs

    def on_fit_start(self) -> None:
        """Like `Brain.on_fit_start`; when training resumes, also correct the logs.

        Epochs that were logged, but not saved before the process ended, are repeated and therefore
        removed from the logs.
        """
        scheduler = self.hparams.lr_scheduler
        saved = checkpoints.get_default_hook(scheduler, checkpoints.DEFAULT_SAVE_HOOKS)
        if self.checkpointer is not None and saved:
            self.checkpointer.add_recoverable("lr_scheduler", scheduler, optional_load=True)
        super().on_fit_start()
        self._check_batches()
        if torch.device(self.device).type == "cpu":
            keep_freed_memory()
        if self.checkpointer is not None and self.checkpointer.find_checkpoint() is not None:
            epoch = self.hparams.epoch_counter.current
            logger.info(f"going on after epoch {epoch} and {self.audio_hours:.2f} hours of audio")
            run_on_main(drop_epochs_after, args=(self.hparams.train_log, epoch))
            run_on_main(self.hparams.train_curve.drop_epochs_after, args=(epoch,))
        if self.decay_start is None and self.hparams.step_schedule.decay_hours is not None:
            self.decay_start = self.audio_hours
        if self._optimizer_step_limit_exceeded and self.step == 0:
            counter = self.hparams.epoch_counter
            counter.limit = counter.current  # an earlier run has reached the end

    @property
    def _batches(self):
        """What decides which mixtures the batches of an epoch hold; None before `fit`."""
        if self.train_loader is None:
            return None
        processes = torch.distributed.get_world_size() if self.distributed_launch else 1
        return {"mixtures": len(self.train_data), "batch_size": self.train_loader.batch_size,
                "max_batch_seconds": getattr(self.hparams, "max_batch_seconds", None),
                "processes": processes}

    def _check_batches(self):
        """Leave out the rest of an interrupted epoch whose batches have changed since."""
        before = self.saved_batches
        if not self.step or before is None or before == self._batches:
            return
        changes = [f"{name} was {before.get(name)}, is {value}"
                   for name, value in self._batches.items() if before.get(name) != value]
        logger.warning("the batches have changed since the checkpoint, which was saved within an "
                       f"epoch ({'; '.join(changes)}): the rest of that epoch is left out")
        self.train_loader._speechbrain_recovery_skip_to = len(self.train_loader)

    def on_fit_batch_start(self, batch: PaddedBatch, should_step: bool) -> None:
        """Seed the random numbers of a step from seed, epoch and step.

        A resumed training continues as if it had not been interrupted, and all processes draw the
        same depth limit.
        """
        torch.manual_seed(self.hparams.seed + self.epoch * STEPS_PER_EPOCH + self.step)

    def optimizers_step(self) -> None:
        """Like `Brain.optimizers_step`, but steps with a NaN or infinite gradient are skipped.

        UserError if there are more than `nonfinite_patience` of them in an epoch.
        """
        if self.scaler.is_enabled():
            scale = self.scaler.get_scale()
            reached = self.optimizer_step
            self._step()
            if self.scaler.get_scale() >= scale:
                self.hparams.average.update()
                return
            self.optimizer_step = reached  # the scaler has skipped the step and halved its scale
            if scale > 1:  # it begins with a high scale: the first such steps do not count
                return
        else:
            gradients = [p.grad for p in self.modules.parameters() if p.grad is not None]
            if torch.nn.utils.get_total_norm(gradients).isfinite():
                self._step()
                self.hparams.average.update()
                return
            self.zero_grad(set_to_none=True)
        self.skipped += 1
        logger.warning(
            f"epoch {self.epoch}, step {self.step}: the gradient is not finite; step skipped "
            f"({self.skipped} in this epoch)"
        )
        if self.skipped > self.nonfinite_patience:
            self._stop(f"{self.skipped} steps of epoch {self.epoch} had a gradient that is not "
                       f"finite (--nonfinite_patience allows {self.nonfinite_patience})")

    def _step(self):
        """Take a step at the learning rate of the step schedule."""
        rates = [group["lr"] for group in self.optimizer.param_groups]
        share = self._rate_share
        for group in self.optimizer.param_groups:
            group["lr"] *= share
        super().optimizers_step()
        for group, rate in zip(self.optimizer.param_groups, rates):
            group["lr"] = rate

    @staticmethod
    def _stop(why):
        raise UserError(f"training stopped: {why}; lower lr, or take --precision fp32")

    @property
    def _rate_share(self):
        return self.hparams.step_schedule.share(
            self.optimizer_step, self.audio_hours, self.decay_start)

    @property
    def _optimizer_step_limit_exceeded(self):
        """True if SpeechBrain's limit of steps or the schedule's hours of audio are reached.

        Then the epoch ends, and the training with it.
        """
        end = self.hparams.step_schedule.end(self.decay_start)
        done = end is not None and self.audio_hours >= end
        return done or super()._optimizer_step_limit_exceeded

    def check_loss_isfinite(self, loss: torch.Tensor) -> None:
        """Disabled: `optimizers_step` detects non-finite gradients instead."""

    def update_average(self, loss: torch.Tensor, avg_loss: float) -> float:
        """Update the mean loss of the stage.

        In training it is the mean of the finite losses, and NaN if there are none. (SpeechBrain
        would count the others as zeros.)
        """
        loss = float(loss)
        if self.modules.training and not math.isfinite(loss):
            return avg_loss if self.counted else math.nan
        self.counted += 1
        return loss if self.counted == 1 else avg_loss + (loss - avg_loss) / self.counted

    def compute_forward(
        self, batch: PaddedBatch, stage: sb.Stage
    ) -> tuple[torch.Tensor, object]:
        """Separate a batch: estimates [B, T, C], and the trace of the recurrence or None."""
        mixture, lengths = batch.to(self.device).mix_sig
        return self.modules.separator(mixture, lengths, return_trace=True)

    def compute_objectives(
        self, predictions: tuple, batch: PaddedBatch, stage: sb.Stage
    ) -> torch.Tensor:
        """The mean loss of a batch; outside training, each item's scores are kept too."""
        estimates, trace = predictions
        mixture, lengths = batch.mix_sig
        sources = batch.sources.data
        estimates = estimates.float()  # the loss is computed in single precision
        if trace is not None:
            self.depths.append(trace.mean_depth.item())
        if stage == sb.Stage.TRAIN:
            samples = to_counts(lengths, mixture.shape[1]).sum()
            if torch.distributed.is_initialized():  # a sum, so that all have one learning rate
                torch.distributed.all_reduce(samples)
            self.audio_seconds += samples.item() / self.hparams.sample_rate
        elif stage == sb.Stage.VALID and self.example is None:
            size = to_counts(lengths, mixture.shape[1])[0]
            signals = (mixture, sources, estimates)
            self.example = tuple(signal[0, :size].detach() for signal in signals)
        if stage != sb.Stage.TRAIN:
            self._keep_scores(batch.id, score(estimates, sources, mixture, lengths), sources)
        loss = self.hparams.loss(estimates, sources, lengths)
        if stage == sb.Stage.TRAIN and self.hparams.ponder_cost:
            if trace is None:
                raise UserError("ponder_cost needs a separator with a recurrence; set it to 0")
            loss = loss + self.hparams.ponder_cost * trace.ponder
        if stage == sb.Stage.TRAIN and self.hparams.loss_threshold is not None:
            # a zero instead of one item less: an item's weight does not depend on the others
            loss = loss * (loss.detach() > self.hparams.loss_threshold)
        return loss.mean()

    def on_stage_start(self, stage: sb.Stage, epoch: int | None = None) -> None:
        """Empty the stage's records; set data, weights and learning rate of the epoch."""
        self.rows = []
        if self.compile:  # the lengths of validation differ: each would be compiled anew
            torch.compiler.set_stance("default" if stage == sb.Stage.TRAIN else "force_eager")
        self.stage_start = time.perf_counter(), time.process_time(), self.audio_seconds
        if stage != sb.Stage.TRAIN:
            self.hparams.average.swap_in()
        else:
            self.hparams.average.swap_out()
            self.epoch = epoch
            if self.train_data is not None:
                self.train_data.set_epoch(epoch)
            if not isinstance(self.hparams.lr_scheduler, ReduceLROnPlateau):
                update_learning_rate(self.optimizer, self.hparams.lr_scheduler(epoch)[0])
        if stage != sb.Stage.TRAIN or self.step == 0:  # otherwise an interrupted epoch continues
            self.depths = []
            self.example = None
            self.counted = 0
            if stage == sb.Stage.TRAIN:
                self.skipped = 0

    def on_stage_end(
        self, stage: sb.Stage, stage_loss: float, epoch: int | None = None
    ) -> None:
        """Log the stage; after validation, save the last and the best checkpoint."""
        stats = {"loss": stage_loss}
        if self.rows:
            stats |= {name: self._mean_score(name) for name in ("si_snr", "si_snr_i")}
        if self.depths:
            stats["mean_depth"] = sum(self.depths) / len(self.depths)
        if stage == sb.Stage.TRAIN:
            steps = self.step // self.grad_accumulation_factor
            if self.skipped and self.skipped == steps:
                self._stop(f"no step of epoch {epoch} had a finite gradient")
            self.train_stats = stats | {"audio_hours": self.audio_hours}
            self.speeds = self._speeds()
            if self.skipped:
                self.train_stats["skipped_steps"] = self.skipped
        elif stage == sb.Stage.VALID:
            lr = self.optimizer.param_groups[0]["lr"] * self._rate_share
            if isinstance(self.hparams.lr_scheduler, ReduceLROnPlateau):
                lr, following = self.hparams.lr_scheduler([self.optimizer], epoch, stage_loss)
                update_learning_rate(self.optimizer, following)
            run_on_main(self._log_epoch, args=(epoch, lr, stats))
            best = stats["si_snr_i"]
            if not math.isfinite(best):
                logger.warning(f"epoch {epoch}: the validation score is {best}; its weights are "
                               "not taken for the best")
                best = -math.inf  # worse than any other; NaN would count as the best
            self.checkpointer.save_and_keep_only(
                meta={"si_snr_i": best, "epoch": epoch}, max_keys=["si_snr_i"]
            )
            if self.hparams.tensorboard and if_main_process():
                self._log_to_tensorboard(epoch, lr, stats)

    def _log_epoch(self, epoch, lr, stats):
        """Add an epoch to the log and the curve; a full disk there costs no checkpoint."""
        try:
            self.hparams.train_logger.log_stats(
                {"epoch": epoch, "lr": lr}, train_stats=self.train_stats, valid_stats=stats)
            self.hparams.train_curve.add(
                epoch=epoch, lr=lr, train=self.train_stats, valid=stats, **self.speeds)
        except (OSError, UserError) as error:
            logger.warning(f"epoch {epoch} is not logged ({error})")

    def _log_to_tensorboard(self, epoch, lr, stats):
        """Log an epoch whose checkpoint is saved already; an error here does not end training."""
        folder = Path(self.hparams.output_folder) / "tensorboard"
        try:
            self.board = self.board or TensorBoard(folder)
            scalars = {"lr": lr}
            for stage, values in (("train", self.train_stats), ("valid", stats)):
                scalars |= {f"{name}/{stage}": value for name, value in values.items()}
            mixture, sources, estimates = self.example
            signals = {"mix": mixture}
            for number, (source, estimate) in enumerate(zip(sources.T, estimates.T), 1):
                signals |= {f"s{number}": source, f"estimate{number}": estimate}
            self.board.log(epoch, scalars, signals, self.hparams.sample_rate)
        except (OSError, ValueError, RuntimeError) as error:
            logger.warning(f"{folder}: epoch {epoch} is not logged ({error})")

    def _speeds(self):
        """Seconds of audio per second, by the clock and by this process's computing time."""
        clock, computing, audio = self.stage_start
        audio = self.audio_seconds - audio
        return {"audio_per_second": audio / (time.perf_counter() - clock),
                "audio_per_cpu_second": audio / (time.process_time() - computing)}

    @checkpoints.mark_as_saver
    def _save(self, path):
        super()._save(path)
        with open(path, "a", encoding="utf-8") as stream:
            kept = {name: getattr(self, name) for name in KEPT}
            own = {"optimizer": self._optimizer_name, "batches": self._batches}
            yaml.safe_dump(kept | own, stream)

    @checkpoints.mark_as_loader
    def _recover(self, path, end_of_epoch):
        super()._recover(path, end_of_epoch)
        with open(path, encoding="utf-8") as stream:
            saved = yaml.safe_load(stream)
        self._check_optimizer(saved, path)
        self.saved_batches = saved.get("batches")
        for name in saved.keys() & set(KEPT):  # checkpoints of earlier versions hold less
            setattr(self, name, saved[name])

    @property
    def _optimizer_name(self):
        return type(self.optimizer).__name__ if hasattr(self, "optimizer") else None

    def _check_optimizer(self, saved, path):
        """Refuse to resume with an optimizer that cannot read the saved state."""
        now = self._optimizer_name  # None in a test without training
        unnamed = "AdamW" if now == "MuonAdamW" else now  # checkpoints of earlier versions
        before = saved.get("optimizer", unnamed)
        if None not in (now, before) and now != before:
            raise UserError(
                f"{Path(path).parent}: its optimizer is {before}, the experiment's is {now}; go on "
                "with that one, or in a new output_folder with --start_from its bundle"
            )

    def best_checkpoint(self) -> checkpoints.Checkpoint:
        """The checkpoint with the best validation score; UserError if no score was finite."""
        folder = self.checkpointer.checkpoints_dir
        best = self.checkpointer.find_checkpoint(max_key="si_snr_i")
        if best is None:
            if self.checkpointer.find_checkpoint() is None:
                raise UserError(f"{folder}: no checkpoint to test; train first")
            raise UserError(f"{folder}: no epoch has been validated; train on, a branch perhaps "
                            "with more N_epochs, train_hours or decay_hours (which counts from "
                            "where the decay began, even in the training that it branched from)")
        if best.meta["si_snr_i"] == -math.inf:  # see `on_stage_end`
            raise UserError(f"{folder}: no epoch had a finite validation score; nothing is "
                            "bundled. Train with a lower lr, or --precision fp32")
        return best

    @property
    def audio_hours(self) -> float:
        """Hours of mixtures trained on so far."""
        return self.audio_seconds / 3600

    def _keep_scores(self, ids, scores, sources):
        """Keep the mean scores of each item's sources that speak."""
        for name, si_snr, si_snr_i, speaks in zip(
            ids, scores.si_snr, scores.si_snr_i, sources.any(dim=1).cpu()
        ):
            row = {"snt_id": name, "si_snr": si_snr[speaks].mean().item()}
            if speaks.all():  # nothing can improve where one speaks alone
                row["si_snr_i"] = si_snr_i.mean().item()
            self.rows.append(row)

    def _mean_score(self, name):
        """Mean over the items that have a score; NaN if none has."""
        values = [row[name] for row in self.rows if name in row]
        return sum(values) / len(values) if values else math.nan
