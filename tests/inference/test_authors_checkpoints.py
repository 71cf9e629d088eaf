"""`papez convert`: what it takes, and what it says of everything else.

That the outputs agree is tested in tests/test_authors.py.
"""

import pickle

import pytest
import torch

from papez_lobes.cli.main import main
from papez_lobes.config.separator_files import read_hyperparameters
from papez_lobes.inference.bundle import load_bundle
from tests.oracles.authors_papez import AuthorsPapez

ATTENTION = "masknet.transformer.enc.self_attn.in_proj_weight"
POSITIONS = "masknet.transformer.enc.position_signal"


@pytest.fixture
def state():
    torch.manual_seed(3)
    return AuthorsPapez(N=16, H=2, M=3, K=8, R=4, ffn=24, C=3, kernel=10).state_dict()


@pytest.fixture
def out(tmp_path):
    return tmp_path / "bundle"


def convert(path, out, *options):
    return main(["convert", str(path), str(out), "--num-heads", "2", *options])


def refusal(path, out, capsys, *options):
    """The one line that a mistake is answered with; nothing was written."""
    folder_before = sorted(out.parent.iterdir())
    assert convert(path, out, *options) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1
    assert printed.err.startswith(f"papez convert: {path}: ")
    assert sorted(out.parent.iterdir()) == folder_before
    return printed.err


def save(state, tmp_path):
    torch.save(state, tmp_path / "authors.ckpt")
    return tmp_path / "authors.ckpt"


def test_sizes_are_read_from_the_tensors(state, tmp_path, out, capsys):
    options = ("--halting-threshold", "0.75", "--sample-rate", "16000")
    assert convert(save(state, tmp_path), out, *options) == 0
    assert capsys.readouterr().out == (
        f"{out}: 3 speakers at 16000 Hz, 16 channels, 3 memory slots, 4 steps\n"
    )
    hparams = read_hyperparameters(out / "hyperparams.yaml")
    assert {**hparams, "dropout": None} == {
        "num_spks": 3, "sample_rate": 16000, "N_encoder_out": 16, "kernel_size": 10,
        "kernel_stride": 5, "num_heads": 2, "ffn_dim": 24, "chunk_tokens": 8, "num_slots": 3,
        "num_steps": 4, "max_depth": 4, "min_train_depth": None, "dropout": None,
        "pruning": "soft", "execution": "auto",
        "attend_padding": True, "close_remainder": False, "halting_threshold": 0.75,
        "halting_bias": 0.0,
    }


@pytest.mark.parametrize("wrap", [
    lambda state: {"state_dict": {f"model.{key}": value for key, value in state.items()},
                   "epoch": 3, "hyper_parameters": {"lr": 1e-4}},
    lambda state: {f"module.{key}": value for key, value in state.items()},
    lambda state: {"state_dict": {f"model.module.{k}": v for k, v in state.items()}},
    lambda state: {**state, "masknet.transformer.timing_signal": torch.zeros(1, 5, 16)},
    lambda state: {key: value.double() for key, value in state.items()},
], ids=["lightning", "distributed", "both", "timing signal", "float64"])
def test_all_spellings_of_a_checkpoint_give_the_same_weights(state, tmp_path, out, wrap):
    assert convert(save(state, tmp_path), out) == 0
    plain = load_bundle(out).state_dict()
    assert convert(save(wrap(state), tmp_path), out, "--overwrite") == 0
    other = load_bundle(out).state_dict()
    assert all(torch.equal(plain[key], other[key]) for key in plain)


def test_half_precision_becomes_single_precision(state, tmp_path, out):
    assert convert(save({k: v.half() for k, v in state.items()}, tmp_path), out) == 0
    assert all(p.dtype == torch.float32 for p in load_bundle(out).parameters())


def test_a_model_without_memory_is_converted(tmp_path, out):
    state = AuthorsPapez(N=16, H=2, M=0, K=8, R=2, ffn=8).state_dict()
    assert convert(save(state, tmp_path), out) == 0
    assert read_hyperparameters(out / "hyperparams.yaml")["num_slots"] == 0


# Files that are no checkpoint


def test_a_missing_file_and_a_folder_are_refused(tmp_path, out, capsys):
    assert "no such file" in refusal(tmp_path / "none.ckpt", out, capsys)
    assert "a folder; name a file" in refusal(tmp_path, out, capsys)


@pytest.mark.parametrize("damage, message", [
    (lambda data: b"", "the file is empty"),
    (lambda data: data[: len(data) // 2], "damaged or cut short"),
    (lambda data: data[:-1], "damaged or cut short"),
    (lambda data: b"RIFF\x00\x00WAVE", "not a torch checkpoint"),
    (lambda data: b"N_encoder_out: 256\n", "not a torch checkpoint"),
    (lambda data: bytes(1000), "not a torch checkpoint"),
], ids=["empty", "half", "one byte short", "wave", "text", "zeros"])
def test_bytes_that_are_no_checkpoint_are_refused(state, tmp_path, out, capsys, damage, message):
    path = save(state, tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    assert message in refusal(path, out, capsys)


class Runs:
    """A pickle of it would run code."""

    def __reduce__(self):
        return (print, ("ran",))


def test_pickles_that_need_more_than_tensors_are_refused(state, tmp_path, out, capsys):
    expected = "save its state dict alone"
    lightning = save({"state_dict": state, "hyper_parameters": AuthorsPapez(N=8, H=1)}, tmp_path)
    line = refusal(lightning, out, capsys)
    assert expected in line and "authors_papez.AuthorsPapez" in line
    old = tmp_path / "old.pkl"
    old.write_bytes(pickle.dumps({"a": Runs()}, protocol=2))
    assert expected in refusal(old, out, capsys)


@pytest.mark.parametrize("content, message", [
    ([1, 2], "holds a list, not a state dict"),
    (torch.zeros(3), "holds a Tensor, not a state dict"),
    ({}, "encoder.0.weight is missing"),
    ({"state_dict": {}}, "encoder.0.weight is missing"),
    ({"conv.weight": torch.zeros(3)}, "encoder.0.weight is missing"),
], ids=["list", "tensor", "empty", "empty lightning", "another model"])
def test_other_contents_are_refused(tmp_path, out, capsys, content, message):
    assert message in refusal(save(content, tmp_path), out, capsys)


# Tensors that are not the authors'


@pytest.mark.parametrize("key", [
    "encoder.3.bias", "masknet.embed.2.weight", ATTENTION, POSITIONS, "memory_slots",
    "decoder.3.weight",
])
def test_a_missing_tensor_is_named(state, tmp_path, out, capsys, key):
    del state[key]
    assert f"{key} is missing" in refusal(save(state, tmp_path), out, capsys)


def test_an_unexpected_tensor_is_named(state, tmp_path, out, capsys):
    state["masknet.extra.weight"] = torch.zeros(1)
    line = refusal(save(state, tmp_path), out, capsys)
    assert "masknet.extra.weight is unexpected" in line


def test_a_tensor_that_is_held_twice_is_named(state, tmp_path, out, capsys):
    state["model.encoder.0.bias"] = state["encoder.0.bias"]
    assert "holds encoder.0.bias twice" in refusal(save(state, tmp_path), out, capsys)


@pytest.mark.parametrize("key", [
    "encoder.0.weight", "encoder.0.bias", "encoder.1.weight", "encoder.3.weight",
    "masknet.embed.0.weight", "masknet.embed.2.weight", ATTENTION, POSITIONS, "memory_slots",
    "masknet.transformer.enc.norm1.weight", "masknet.transformer.enc.norm2.bias",
    "masknet.transformer.enc.linear1.weight", "masknet.dislodge.0.weight",
    "masknet.dislodge.3.bias", "decoder.3.weight",
])
@pytest.mark.parametrize("spoil", [
    lambda value: value.unsqueeze(0),
    lambda value: value.flatten()[0],
    lambda value: value[..., :0],
], ids=["more axes", "a number", "nothing"])
def test_a_wrong_shape_is_named(state, tmp_path, out, capsys, key, spoil):
    state[key] = spoil(state[key])
    assert f"{key} is [" in refusal(save(state, tmp_path), out, capsys)


@pytest.mark.parametrize("key", ["encoder.3.bias", "masknet.dislodge.1.weight", "decoder.0.weight"])
def test_one_row_too_many_is_named(state, tmp_path, out, capsys, key):
    state[key] = torch.cat([state[key], state[key][:1]])
    assert f"{key} is [" in refusal(save(state, tmp_path), out, capsys)


@pytest.mark.parametrize("value", ["text", torch.zeros(16, dtype=torch.long)])
def test_what_is_no_tensor_of_numbers_is_named(state, tmp_path, out, capsys, value):
    state["encoder.0.bias"] = value
    line = refusal(save(state, tmp_path), out, capsys)
    assert "encoder.0.bias is not a tensor of floating point numbers" in line


def test_masks_that_are_no_multiple_of_the_width_are_refused(state, tmp_path, out, capsys):
    state["masknet.dislodge.0.weight"] = state["masknet.dislodge.0.weight"][:-1]
    assert "47 rows, not a multiple of 16" in refusal(save(state, tmp_path), out, capsys)


@pytest.mark.parametrize("change", [
    lambda slots: slots * 0.999,
    lambda slots: slots.flip(-1),
    lambda slots: slots + torch.nn.functional.one_hot(torch.tensor(0), 3),
])
def test_learned_slots_are_refused_as_they_would_be_lost(state, tmp_path, out, capsys, change):
    state["memory_slots"] = change(state["memory_slots"])
    line = refusal(save(state, tmp_path), out, capsys)
    assert "memory_slots is not the authors' constant" in line


@pytest.mark.parametrize("change", [
    lambda code: code.roll(3, dims=1),  # tokens first
    lambda code: torch.cat([code[..., 0::2], code[..., 1::2]], dim=-1),
    lambda code: code + 0.01,
])
def test_other_positions_are_refused_as_they_would_be_lost(state, tmp_path, out, capsys, change):
    state[POSITIONS] = change(state[POSITIONS])
    line = refusal(save(state, tmp_path), out, capsys)
    assert f"{POSITIONS} is not the sinusoidal code" in line


# Arguments and places


@pytest.mark.parametrize("options, message", [
    (("--num-heads", "3"), "num_heads is 3: it must divide the width of 16"),
    (("--num-heads", "0"), "num_heads is 0"),
    (("--halting-threshold", "1.5"), "halting_threshold is 1.5: it must be a number above 0 and"),
])
def test_arguments_that_do_not_fit_are_refused(state, tmp_path, out, capsys, options, message):
    assert message in refusal(save(state, tmp_path), out, capsys, *options)


def test_a_wrong_sample_rate_is_refused(state, tmp_path, out, capsys):
    assert convert(save(state, tmp_path), out, "--sample-rate", "0") == 2
    assert capsys.readouterr().err == (
        "papez convert: sample_rate is 0: it must be at least 1 Hz\n"
    )


def test_it_never_replaces_what_is_no_bundle(state, tmp_path, capsys):
    path = save(state, tmp_path)
    before = path.read_bytes()
    for out in (path, tmp_path):  # the checkpoint itself, and the folder that holds it
        assert convert(path, out) == 2
        assert capsys.readouterr().err == (
            f"papez convert: {out}: exists and is not a bundle; name another folder\n"
        )
    assert path.read_bytes() == before
