#!/usr/bin/env python3
"""Train, evaluate and bundle a separator on WSJ0-mix, all of it from an experiment file.

    python train.py hparams/papez.yaml --data_folder /path/to/wsj0-mix/2speakers

Overrides, SpeechBrain's run options and resuming work as in every SpeechBrain recipe; see
README.md beside this file.
"""

from papez_lobes.training.processes import end_at_ctrl_c

if __name__ == "__main__":
    end_at_ctrl_c("train.py")  # before the imports that take seconds

import shlex
import sys
from pathlib import Path

import speechbrain as sb
import torch
from speechbrain.utils.logger import get_logger

from papez_lobes.config.experiments import load_experiment
from papez_lobes.data.datasets import SeparationDataset
from papez_lobes.data.manifests import SPLITS
from papez_lobes.errors import one_line_errors
from papez_lobes.evaluation.evaluate import evaluate, write_examples
from papez_lobes.evaluation.output_files import write_evaluation
from papez_lobes.evaluation.provenance import provenance
from papez_lobes.inference.bundle import check_replaceable, write_bundle
from papez_lobes.inference.warm_start import start_from
from papez_lobes.training.batching import train_loader_options
from papez_lobes.training.brain import Separation
from papez_lobes.training.curve import plot_curves
from papez_lobes.training.logs import LOG_CONFIG, check_tensorboard, quiet_speechbrain, summary
from papez_lobes.training.output_folder import (
    branch_from,
    claim_output_folder,
    keep_hyperparameters,
)
from papez_lobes.training.processes import on_main

logger = get_logger("train")  # SpeechBrain's: of the main process alone


def prepare_data(hparams):
    """Write the manifests on the main process; returns their paths by split."""
    # mixing on the fly needs no recorded training split
    splits = SPLITS if hparams["speech_folder"] is None else SPLITS[1:]
    if not hparams["skip_prep"]:
        on_main(hparams["prepare"], splits=splits)
    return hparams["prepare"](skip_prep=True, splits=splits)


def make_datasets(hparams, manifests):
    """The training set, its loader's options, and the validation set."""
    on_main(hparams["train_set"], manifests.get("tr"))  # the main process decodes the speech
    train_set = hparams["train_set"](manifests.get("tr"))
    options = train_loader_options(
        train_set, hparams["train_dataloader_opts"], hparams["max_batch_seconds"], hparams["seed"]
    )
    valid_set = SeparationDataset(manifests["cv"], hparams["num_spks"], hparams["sample_rate"])
    return train_set, options, valid_set


def bundle_and_evaluate(brain, experiment, manifest, spent):
    """Bundle the best checkpoint's separator, score it on the test set, and print a summary.

    `spent` holds the epochs, minutes and hours of audio of the training, and its best checkpoint.
    """
    hparams, out = experiment.hparams, Path(experiment.hparams["output_folder"])
    separator = brain.modules["separator"]
    separator = getattr(separator, "module", separator)  # DistributedDataParallel
    if not brain.test_only:  # which may have other hyperparameters than the trained model
        write_bundle(
            out / "bundle", experiment.separator_file, experiment.hyperparameters, separator.parts
        )
    evaluation = evaluate(
        separator, manifest, hparams["num_spks"], hparams["sample_rate"], brain.device,
        jobs=hparams["num_workers"], examples=hparams["save_audio"],
        context=lambda: brain.evaluation_ctx,
    )
    about = provenance(
        None if brain.test_only else out / "bundle", command=shlex.join(sys.argv),
        hyperparameters=experiment.hyperparameters, data=str(manifest), device=brain.device,
        dtype=brain.eval_precision, jobs=hparams["num_workers"],
    )
    write_examples(evaluation.first, out / "audio_results", hparams["sample_rate"])
    print(write_evaluation(evaluation, about, out, rows="test_results.csv"))
    hparams["train_logger"].log_stats(
        {"epoch loaded": hparams["epoch_counter"].current},
        test_stats={name: evaluation.mean(name) for name in ("si_snr", "si_snr_i", "sdr_i")},
    )
    if brain.test_only:
        return
    curve = hparams["train_curve"]
    picture = curve.file.with_suffix(".png")
    plot_curves({out.name: curve.records}, picture)
    files = {"bundle": out / "bundle", "curve": picture, "log": Path(hparams["train_log"]),
             "checkpoints": Path(hparams["save_folder"]), "tensorboard": out / "tensorboard"}
    print(*summary(*spent, files), sep="\n")


if __name__ == "__main__":
    quiet_speechbrain()
    with one_line_errors("train.py"):
        # the experiment file, with what the command line changes, becomes objects
        experiment = load_experiment(sys.argv[1:])
        hparams, run_opts = experiment.hparams, experiment.run_opts
        sb.utils.distributed.ddp_init_group(run_opts)

        if hparams["tensorboard"]:
            check_tensorboard()

        # one training at a time in the output folder, of one separator
        on_main(claim_output_folder, hparams["output_folder"], run_opts.debug,
                hparams["save_folder"])
        on_main(check_replaceable, Path(hparams["output_folder"], "bundle"))
        if hparams["branch_from"] is not None:
            on_main(branch_from, hparams["branch_from"], hparams["save_folder"],
                    hparams["output_folder"])
        on_main(keep_hyperparameters, hparams["save_folder"], experiment.separator_file.name,
                experiment.hyperparameters)
        if hparams["start_from"] is not None and hparams["checkpointer"].find_checkpoint() is None:
            parts = hparams["modules"]["separator"].parts
            trust = hparams.get("trust_bundle", False)  # which earlier experiment files lack
            start_from(hparams["start_from"], parts, hparams["num_spks"], trust)
        manifests = prepare_data(hparams)
        sb.create_experiment_directory(
            hparams["output_folder"], log_config=run_opts.log_config or LOG_CONFIG
        )
        on_main(experiment.save)  # hyperparams.yaml
        train_set, train_options, valid_set = make_datasets(hparams, manifests)
        logger.info(train_set)

        brain = Separation(
            modules=hparams["modules"],
            opt_class=hparams["optimizer"],
            hparams=hparams,
            run_opts=run_opts,
            checkpointer=hparams["checkpointer"],
        )
        if not brain.test_only:
            brain.fit(
                hparams["epoch_counter"],
                train_set,
                valid_set,
                train_loader_kwargs=train_options,
                valid_loader_kwargs=hparams["eval_dataloader_opts"],
            )

        # all processes load the best checkpoint, and the main one evaluates it
        best, counter = brain.best_checkpoint(), hparams["epoch_counter"]
        spent = (counter.current, counter.seconds / 60, brain.audio_hours, best)
        brain.on_evaluate_start(max_key="si_snr_i")
        main = sb.utils.distributed.if_main_process()
        if torch.distributed.is_initialized():  # from here on no process waits for another
            torch.distributed.destroy_process_group()
        if main:
            bundle_and_evaluate(brain, experiment, manifests["tt"], spent)
