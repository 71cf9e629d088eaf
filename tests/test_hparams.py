"""The separator and experiment files: what they promise, and that they agree with each other."""

import importlib
import inspect
import io
import re

import pytest
import torch
from hyperpyyaml import load_hyperpyyaml
from ruamel.yaml import YAML

from papez_lobes.config.separator_files import PARTS, read_hyperparameters
from papez_lobes.data.manifests import prepare_manifests
from tests.tiny import ROOT, SEPARATORS, tiny_hparams

PAPEZ = [path for path in SEPARATORS if path.stem.startswith("papez")]
EXPERIMENTS = sorted((ROOT / "recipes/WSJ0Mix/separation/hparams").glob("*.yaml"))
OTHER_CORPORA = sorted(set((ROOT / "recipes").glob("*/*/hparams/*.yaml")) - set(EXPERIMENTS))
# Top-level keys of SpeechBrain's own WSJ0Mix experiment outside its model section.
STOCK_KEYS = {
    "seed", "__set_seed", "data_folder", "base_folder_dm", "experiment_name", "output_folder",
    "train_log", "save_folder", "train_data", "valid_data", "test_data", "skip_prep", "precision",
    "ckpt_interval_minutes", "test_only", "noprogressbar", "progressbar", "save_audio", "N_epochs",
    "batch_size", "lr", "clip_grad_norm", "loss_upper_lim", "limit_training_signal_len",
    "training_signal_len", "dynamic_mixing", "use_wavedrop", "use_speedperturb", "use_rand_shift",
    "min_shift", "max_shift", "speedperturb", "wavedrop", "threshold_byloss", "threshold",
    "dataloader_opts", "optimizer", "loss", "lr_scheduler", "epoch_counter", "modules",
    "checkpointer", "train_logger", "wsj0_tr", "auto_mix_prec", "d_ffn", "speed_changer",
    "use_speedperturb_sameforeachsource", "drop_freq", "drop_chunk", "speed_changes",
    "speed_perturb", "drop_freq_low", "drop_freq_high", "drop_freq_count_low",
    "drop_freq_count_high", "drop_freq_width", "drop_chunk_count_low", "drop_chunk_count_high",
    "drop_chunk_length_low", "drop_chunk_length_high",
}
# papez_base is trained by `papez_small.yaml --separator papez_base`
TRAINED_BY_NAME = [path for path in SEPARATORS if path.stem != "papez_base"]
PARAMETERS = {
    "papez": 1_473_795, "papez_official": 1_473_795, "papez_small": 1_095_686,
    "papez_base": 3_408_518,
    # SpeechBrain's, at the settings of its recipe
    "convtasnet": 6_582_832, "dprnn": 14_617_089, "sepformer": 25_679_361,
    "resepformer": 7_955_201, "skim": 14_506_753,
}


def keys_of(path):
    return YAML(typ="rt").load(path.read_text(encoding="utf-8"))


def test_every_separator_file_has_its_parameter_count_checked():
    assert set(PARAMETERS) == {path.stem for path in SEPARATORS}


@pytest.mark.parametrize("path", SEPARATORS, ids=lambda path: path.stem)
def test_a_separator_file_gives_what_it_promises(path, monkeypatch):
    for name in ("kaiming_uniform_", "xavier_uniform_", "uniform_"):  # most of the time
        monkeypatch.setattr(torch.nn.init, name, lambda weight, *_, **__: weight)
    with open(path, encoding="utf-8") as stream:
        hparams = load_hyperpyyaml(stream)
    for key in (*PARTS.values(), "num_spks", "sample_rate"):
        assert key in hparams
    for part, node in PARTS.items():
        assert getattr(hparams["Separator"], part) is hparams[node]
    assert not set(hparams) & STOCK_KEYS
    text = path.read_text(encoding="utf-8")
    assert "!include" not in text  # a bundle must stand alone
    modules = (hparams[node] for node in PARTS.values())
    count = sum(p.numel() for module in modules for p in module.parameters())
    assert count == PARAMETERS[path.stem]
    assert set(re.findall(r"([\d,]+) parameters", text)) <= {f"{count:,}"}


def test_papez_files_differ_in_their_hyperparameters_alone():
    """Two and two build one model: the nodes below are the same. Two have a spectrogram:
    their recurrence is built alike, and of their hparams only the width's has another name."""
    texts = {path.stem: path.read_text(encoding="utf-8") for path in PAPEZ}
    nodes = {name: text.partition("\nEncoder:")[2] for name, text in texts.items()}
    assert set(nodes) == {"papez", "papez_official", "papez_small", "papez_base"}
    assert all(nodes.values())
    assert nodes["papez"] == nodes["papez_official"] and nodes["papez_small"] == nodes["papez_base"]
    hparams = {path.stem: list(read_hyperparameters(path)) for path in PAPEZ}
    assert hparams["papez"] == hparams["papez_official"]
    assert hparams["papez_small"] == hparams["papez_base"]
    differing = set(hparams["papez"]) ^ set(hparams["papez_small"])
    assert differing == {"N_encoder_out", "bottleneck_dim"}
    recurrence = {
        text.partition("\nBlock:")[2].partition("\nMaskNet:")[0].replace(width, "width")
        for text, width in ((nodes["papez"], "N_encoder_out"),
                            (nodes["papez_small"], "bottleneck_dim"))
    }
    assert len(recurrence) == 1


def test_what_official_sets_is_what_the_authors_do():
    files = [ROOT / f"hparams/{name}.yaml" for name in ("papez", "papez_official")]
    ours, theirs = map(read_hyperparameters, files)
    changed = {key: theirs[key] for key in ours if ours[key] != theirs[key]}
    assert changed == {"pruning": "soft", "close_remainder": False, "attend_padding": True}


@pytest.mark.parametrize("path", [*EXPERIMENTS, *OTHER_CORPORA], ids=lambda path: path.stem)
def test_experiments_name_only_hyperparameters_that_their_separator_has(path):
    """HyperPyYAML takes an unknown key under an include in silence."""
    node = keys_of(path)["separator"]
    separator = path.parent / node.tag.value.removeprefix("!include:")
    assert set(node) <= set(read_hyperparameters(separator))


def test_experiments_are_equal_outside_their_separator_and_optimizer():
    def outside(path):
        keys = keys_of(path)
        for own in ("separator", "experiment_name", "optimizer"):
            keys.pop(own)
        stream = io.StringIO()
        YAML(typ="rt").dump(keys, stream)
        lines = [line.split("#")[0].rstrip() for line in stream.getvalue().splitlines()]
        return "\n".join(line for line in lines if line)

    experiments = {path.stem: outside(path) for path in EXPERIMENTS if path.stem != "demo"}
    assert len(set(experiments.values())) == 1
    assert set(experiments) == {path.stem for path in TRAINED_BY_NAME}


@pytest.mark.parametrize("path", [*EXPERIMENTS, *OTHER_CORPORA],
                         ids=lambda path: f"{path.parts[-4]}-{path.stem}")
def test_papez_is_trained_with_muon_and_all_others_with_adamw(path):
    ours = path.stem in ("papez", "papez_small", "demo")
    optimizer = keys_of(path)["optimizer"]
    name = "papez_lobes.training.muon.MuonAdamW" if ours else "torch.optim.AdamW"
    assert optimizer.tag.value == f"!name:{name}"
    assert set(optimizer) == {"lr", "weight_decay", *(["modules"] if ours else [])}
    assert all(value.value == f"<{key}>" for key, value in optimizer.items())


@pytest.mark.parametrize("path", TRAINED_BY_NAME, ids=lambda path: path.stem)
def test_an_experiment_is_named_after_its_separator(path):
    experiment = keys_of(next(found for found in EXPERIMENTS if found.stem == path.stem))
    assert experiment["experiment_name"] == path.stem
    assert experiment["separator"].tag.value == f"!include:../../../../hparams/{path.name}"


def test_demo_differs_from_the_others_in_values_alone():
    papez, demo = (keys_of(path) for path in EXPERIMENTS if path.stem in ("papez", "demo"))
    assert list(papez) == list(demo)


def outside_data(path):
    """An experiment's text without its title and what concerns the data alone."""
    text = path.read_text(encoding="utf-8").split("# ################################\n")[2]
    hparams = text.index("\n# Data\n"), text.index("\nskip_prep: ")
    node = text.index("\nprepare: "), text.index("\n    check_audio: ")
    return text[:hparams[0]], text[hparams[1]:node[0]], text[node[1]:]


@pytest.mark.parametrize("path", OTHER_CORPORA, ids=lambda path: f"{path.parts[-4]}-{path.stem}")
def test_other_corpora_differ_from_wsj0mix_in_their_data_alone(path):
    ours = ROOT / "recipes/WSJ0Mix/separation/hparams" / path.name
    assert outside_data(path) == outside_data(ours)


def test_each_corpus_has_the_same_experiments():
    corpora = {}
    for path in OTHER_CORPORA:
        corpora.setdefault(path.parts[-4], set()).add(path.stem)
    assert set(corpora) == {"LibriMix", "WHAM", "CustomData"}
    assert all(names == {"papez"} for names in corpora.values())  # the rest is --separator


@pytest.mark.parametrize("path", [*EXPERIMENTS, *OTHER_CORPORA],
                         ids=lambda path: f"{path.parts[-4]}-{path.stem}")
def test_all_hyperparameters_of_the_data_reach_the_function_that_prepares_it(path):
    keys = keys_of(path)
    module, _, name = keys["prepare"].tag.value.removeprefix("!name:").rpartition(".")
    parameters = set(inspect.signature(getattr(importlib.import_module(module), name)).parameters)
    parameters.remove("options")  # which are those of the function that writes the manifests
    parameters |= {"splits", "check_audio", "check_sums", "leave_out_damaged", "skip_prep"}
    assert parameters - set(keys["prepare"]) == {"splits", "skip_prep"}
    assert set(keys["prepare"]) <= parameters <= {
        *inspect.signature(prepare_manifests).parameters, *keys["prepare"]}
    given = {value.value.strip("<>") for value in keys["prepare"].values()}
    names = list(keys)
    hparams = names[names.index("data_folder"):names.index("skip_prep")]
    assert given == {*hparams, "save_folder", "check_audio", "check_sums", "leave_out_damaged"}


# SpeechBrain's recipe is not in its package. This is what its WSJ0Mix experiment looks like
# around the model section, and below what its train.py calls.
STOCK_EXPERIMENT = """
seed: 1234
__set_seed: !apply:torch.manual_seed [!ref <seed>]
num_spks: 2
sample_rate: 8000
lr: 0.00015
threshold: -30

{model}

optimizer: !name:torch.optim.Adam
    lr: !ref <lr>
loss: !name:speechbrain.nnet.losses.get_si_snr_with_pitwrapper
modules:
    encoder: !ref <Encoder>
    decoder: !ref <Decoder>
    masknet: !ref <MaskNet>
"""


def reset_layer_recursively(layer):
    """What its train.py does to each module before training."""
    if hasattr(layer, "reset_parameters"):
        layer.reset_parameters()
    for child in layer.modules():
        if child is not layer:
            reset_layer_recursively(child)


@pytest.mark.parametrize("path", SEPARATORS, ids=lambda path: path.stem)
def test_pasted_into_speechbrains_recipe_it_trains_there(path):
    model = path.read_text(encoding="utf-8")
    model = re.sub(r"^(num_spks|sample_rate):.*\n", "", model, flags=re.M)
    hparams = load_hyperpyyaml(STOCK_EXPERIMENT.format(model=model), tiny_hparams(path))
    torch.manual_seed(0)
    mix, targets = torch.randn(1, 800), torch.randn(1, 800, 2)
    for module in hparams["modules"].values():
        reset_layer_recursively(module)
    parameters = [p for module in hparams["modules"].values() for p in module.parameters()]
    optimizer, losses = hparams["optimizer"](parameters, lr=0.003), []
    for _ in range(3):
        mix_w = hparams["Encoder"](mix)
        est_mask = hparams["MaskNet"](mix_w)
        sep_h = torch.stack([mix_w] * hparams["num_spks"]) * est_mask
        est_source = torch.cat(
            [hparams["Decoder"](sep_h[i]).unsqueeze(-1) for i in range(hparams["num_spks"])], dim=-1
        )
        assert est_source.size(1) >= mix.size(1)
        loss = hparams["loss"](targets, est_source[:, : mix.size(1), :]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
