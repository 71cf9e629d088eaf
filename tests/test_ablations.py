"""Every ablation of hparams/ablations.yaml: built, run forward and backward, reloaded; hparams that
do not fit."""

import copy
from functools import cache

import pytest
import torch
from ablate import ablations

from papez_lobes.ablations import DisjointBlock
from papez_lobes.config.separator_files import build_modules, read_hyperparameters, separator_file
from papez_lobes.errors import UserError
from papez_lobes.halting import Halting
from papez_lobes.recurrent import RecurrentTransformer
from papez_lobes.separator import Separator
from tests.oracles import plain_papez
from tests.tiny import tiny_hparams

HPARAMS = separator_file("papez").parent
SIZES = tiny_hparams(separator_file("papez"), num_steps=3, halting_bias=-1.0)
for own in ("chunk_tokens", "num_slots"):  # which rows of the table set
    del SIZES[own]
ROWS = ablations()
PAPEZ = read_hyperparameters(separator_file("papez"))
SEPARATORS = sorted((HPARAMS / "ablations").glob("*.yaml"))


def file_and_hparams(name):
    hparams = dict(ROWS[name])
    own = hparams.pop("separator", None)
    return HPARAMS / "ablations" / own if own else separator_file("papez"), hparams


def build(name, **hparams):
    separator = copy.deepcopy(built_once(name, **hparams))
    torch.manual_seed(0)
    return separator


@cache
def built_once(name, **hparams):
    file, own = file_and_hparams(name)
    torch.manual_seed(0)
    return Separator(**build_modules(file, {**SIZES, **own, **hparams})).double()


def test_the_paper_s_rows_are_there():
    slots = {hparams.get("num_slots") for hparams in ROWS.values()}
    chunks = {hparams.get("chunk_tokens") for hparams in ROWS.values()}
    assert slots >= {0, 2, 4, 8, 10, 16} and chunks >= {100, 150, 200, 250}
    used = {hparams["separator"] for hparams in ROWS.values() if "separator" in hparams}
    assert used == {path.name for path in SEPARATORS}


@pytest.mark.parametrize("path", SEPARATORS, ids=lambda path: path.stem)
def test_a_separator_of_its_own_differs_from_papez_in_one_node(path):
    def lines(file):
        text = file.read_text(encoding="utf-8")
        return text[text.index("num_spks:"):].splitlines()

    ours, theirs = lines(separator_file("papez")), lines(path)
    removed = [line for line in ours if line not in theirs]
    added = [line for line in theirs if line not in ours]
    assert len(removed) <= 1 and 1 <= len(added) <= 4
    hparams, base = read_hyperparameters(path), read_hyperparameters(separator_file("papez"))
    assert {key: hparams[key] for key in base} == base
    assert set(hparams) - set(base) <= {"halting_dim"}


@pytest.mark.parametrize("name", ROWS)
def test_it_learns_alone_and_in_batches(name):
    separator = build(name, halting_bias=-3.0).train()
    mixture = torch.randn(2, 400, dtype=torch.float64)
    estimates, trace = separator(mixture, return_trace=True)
    assert (trace.depth == 3).all()  # every step is reached
    estimates.square().mean().backward()
    for key, parameter in separator.named_parameters():
        assert parameter.grad.abs().sum() > 0, key
    separator = build(name).eval()
    lengths = torch.tensor([1.0, 0.5], dtype=torch.float64)
    together = separator(mixture, lengths)
    torch.testing.assert_close(together[1:, :200], separator(mixture[1:, :200]))
    again = build(name).eval()
    for parameter in again.parameters():
        torch.nn.init.zeros_(parameter)
    again.load_state_dict(copy.deepcopy(separator.state_dict()))
    assert torch.equal(again(mixture), separator(mixture))


@pytest.mark.parametrize("name", ROWS)
def test_no_parameter_is_without_a_gradient_where_a_loop_stops_early(name):
    """It would abort distributed training."""
    separator = build(name, halting_bias=20.0).train()
    separator(torch.randn(1, 200, dtype=torch.float64)).square().mean().backward()
    assert [key for key, p in separator.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", [n for n in ROWS if n != "soft"])
def test_packed_is_masked_with_the_same_gradients(name):
    mixture = torch.randn(2, 800, dtype=torch.float64)
    lengths = torch.tensor([1.0, 0.6], dtype=torch.float64)
    outputs = []
    for execution in ("packed", "masked"):
        separator = build(name, execution=execution, num_steps=5, halting_bias=-0.5).train()
        estimates, trace = separator(mixture, lengths, return_trace=True)
        estimates.square().mean().backward()
        outputs.append((estimates, trace.depth, [p.grad for p in separator.parameters()]))
    (packed, first, gradients), (masked, second, others) = outputs
    assert torch.equal(first, second)
    ran = first[first > 0].unique()
    assert ran.tolist() == [5] if name == "no_halting" else len(ran) > 1  # some have left
    torch.testing.assert_close(packed, masked, atol=1e-9, rtol=0)
    torch.testing.assert_close(gradients, others, atol=1e-9, rtol=1e-6)


def test_halting_and_parameters_are_those_of_each_variant():
    mixture = torch.randn(1, 400, dtype=torch.float64)
    _, trace = build("no_halting", halting_bias=20.0).eval()(mixture, return_trace=True)
    assert (trace.depth == 3).all()  # whatever the logits
    _, trace = build("halting_network", halting_bias=20.0).eval()(mixture, return_trace=True)
    assert (trace.depth == 1).all()
    count = {name: sum(p.numel() for p in build(name).parameters()) for name in ROWS}
    block = sum(p.numel() for p in build("papez").masknet.transformer.block.parameters())
    assert count["separate_blocks"] > count["papez"] + 1.5 * block
    assert count["shared_norm"] == count["papez"] - 2 * 2 * 16 * 2  # two norms, two more steps
    assert count["learned_memory"] == count["papez"] + 10 * 17
    assert count["slots_0"] == count["papez"]


@pytest.mark.parametrize("slots", [0, 3])
@pytest.mark.parametrize("length", [1, 7, 8, 9, 20])
def test_chunks_side_by_side_equal_the_plain_recurrence(slots, length):
    torch.manual_seed(0)
    block = DisjointBlock(12, 3, 20, 6, slots, chunk_tokens=8)
    for name, parameter in block.named_parameters():
        torch.nn.init.normal_(parameter, mean=float("norm" in name and "weight" in name), std=0.3)
    tokens = torch.randn(2, length, 12, dtype=torch.float64)
    memory = torch.randn(2, slots, 12, dtype=torch.float64)
    for executions in ([("soft",)], [("hard", "masked"), ("hard", "packed")]):
        loops = [RecurrentTransformer(block, Halting(bias=-1.0), *pruning).double().eval()
                 for pruning in executions]
        hard = executions[0][0] == "hard"
        plain = [plain_papez.recur(loops[0], *item, hard) for item in zip(tokens, memory)]
        for loop in loops:
            got, trace = loop(tokens, memory)
            for item, (expected, depth) in enumerate(plain):
                assert torch.equal(trace.depth[item], depth)
                torch.testing.assert_close(got[item], expected, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("name, reach", [
    ("no_path", 8),  # its own chunk
    ("slots_0", 16),  # the half of its own, and one more with each of three steps
    ("papez", 40),
])
def test_a_token_attends_as_far_as_its_chunks_reach(name, reach):
    """In the recurrence; the norms over time around it are left out."""
    loop = build(name, chunk_tokens=8, halting_bias=-20.0).masknet.transformer.eval()
    tokens = torch.randn(1, 40, 16, dtype=torch.float64).requires_grad_()
    slots = loop.block.num_slots
    output, _ = loop(tokens, torch.randn(1, slots, 16, dtype=torch.float64))
    output[0, 0, 3].backward()
    heard = tokens.grad.abs().sum(dim=-1).flatten() > 0
    assert heard[:reach].all() and not heard[reach:].any()


@pytest.mark.parametrize("hparams, message", [
    ({"chunk_tokens": 15}, "chunk_tokens is 15"), ({"num_heads": 3}, "num_heads is 3"),
    ({"num_slots": 17}, "num_slots is 17"), ({"halting_threshold": 1.5}, "halting_threshold is 1"),
    ({"halting_threshold": 0}, "halting_threshold is 0"), ({"num_steps": 0}, "max_depth|num_steps"),
    ({"ffn_dim": 0}, "ffn_dim is 0"), ({"dropout": 1.0}, "dropout is 1.0"),
    ({"dropout": -0.1}, "dropout is -0.1"), ({"dropout": float("nan")}, "dropout is nan"),
    ({"chunk_tokens": 0}, "chunk_tokens is 0"), ({"num_slots": -1}, "num_slots is -1"),
    ({"kernel_stride": 0}, "kernel_stride is 0"), ({"kernel_size": 0}, "kernel_size is 0"),
    ({"N_encoder_out": 0}, "N_encoder_out is 0"), ({"max_depth": 0}, "max_depth is 0"),
    ({"min_train_depth": 0}, "min_train_depth is 0"),
    ({"halting_threshold": float("nan")}, "halting_threshold is nan"),
    ({"pruning": "hrad"}, "pruning is 'hrad'"), ({"execution": "fast"}, "execution is 'fast'"),
    ({"attend_padding": True}, "attend_padding is True"),
    ({"kernel_stride": 9}, "kernel_stride is 9"), ({"max_depth": 4}, "max_depth is 4"),
    ({"min_train_depth": 4}, "min_train_depth is 4"), ({"num_spks": 0}, "num_spks is 0"),
    ({"halting_bias": float("nan")}, "halting_bias is nan"), ({"num_heads": 0}, "num_heads is 0"),
])
def test_hyperparameters_that_do_not_fit_name_their_key(hparams, message):
    with pytest.raises(UserError, match=message):
        build("papez", **hparams)


@pytest.mark.parametrize("key", [key for key in PAPEZ if key != "sample_rate"])
@pytest.mark.parametrize("value", ["many", [3], 2.5, True])
def test_hyperparameters_of_the_wrong_type_name_their_key(key, value):
    now = PAPEZ[key]
    fits = isinstance(value, bool) == isinstance(now, bool) and isinstance(value, type(now))
    if fits or (isinstance(now, float) and value == 2.5):
        pytest.skip("of its type")
    with pytest.raises(UserError, match=f": {key} is "):
        build_modules(separator_file("papez"), {**SIZES, key: value})
