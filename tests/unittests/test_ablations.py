"""Every ablation of hparams/ablations.yaml: built, run forward and backward, reloaded."""

import copy
from pathlib import Path

import pytest
import torch

from papez_lobes.errors import UserError
from papez_lobes.knobs import build_modules, read_knobs, separator_file
from papez_lobes.separator import separate
from papez_lobes.tools.ablate import ablations, train_command
from papez_lobes.tools.cli import main

HPARAMS = separator_file("papez").parent
TINY = {
    "N_encoder_out": 16, "num_heads": 2, "ffn_dim": 16, "num_steps": 3, "dropout": 0.0,
    "halting_bias": -1.0, "kernel_size": 8, "kernel_stride": 4,
}
ROWS = ablations()
SEPARATORS = sorted((HPARAMS / "ablations").glob("*.yaml"))


def file_and_knobs(name):
    knobs = dict(ROWS[name])
    own = knobs.pop("separator", None)
    return HPARAMS / "ablations" / own if own else separator_file("papez"), knobs


def build(name, **knobs):
    file, own = file_and_knobs(name)
    torch.manual_seed(0)
    modules = build_modules(file, {**TINY, **own, **knobs})
    return torch.nn.ModuleDict(modules).double()


def test_the_paper_s_rows_are_there():
    slots = {knobs.get("num_slots") for knobs in ROWS.values()}
    chunks = {knobs.get("chunk_tokens") for knobs in ROWS.values()}
    assert slots >= {0, 2, 4, 8, 10, 16} and chunks >= {100, 150, 200, 250}
    used = {knobs["separator"] for knobs in ROWS.values() if "separator" in knobs}
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
    knobs, base = read_knobs(path), read_knobs(separator_file("papez"))
    assert {key: knobs[key] for key in base} == base
    assert set(knobs) - set(base) <= {"halting_dim"}


@pytest.mark.parametrize("name", ROWS)
def test_it_learns_alone_and_in_batches(name):
    modules = build(name, halting_bias=-20.0).train()  # every step is reached
    mixture = torch.randn(2, 700, dtype=torch.float64)
    separate(modules, mixture).square().mean().backward()
    for key, parameter in modules.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().sum() > 0 or _may_be_zero(name, key), key
    modules = build(name).eval()
    lengths = torch.tensor([1.0, 0.5], dtype=torch.float64)
    together = separate(modules, mixture, lengths)
    torch.testing.assert_close(together[1:, :350], separate(modules, mixture[1:, :350]))
    again = build(name).eval()
    for parameter in again.parameters():
        torch.nn.init.zeros_(parameter)
    again.load_state_dict(copy.deepcopy(modules.state_dict()))
    assert torch.equal(separate(again, mixture), separate(modules, mixture))


def _may_be_zero(name, key):
    """Halting that is out of reach, and what only the memory that is read last has a say in."""
    return "halting.network" in key or "memory" in key or "in_proj.bias" in key


@pytest.mark.parametrize("name", [n for n in ROWS if n not in ("soft",)])
def test_packed_is_masked(name):
    mixture = torch.randn(2, 1500, dtype=torch.float64)
    outputs = []
    for execution in ("packed", "masked"):
        modules = build(name, execution=execution).eval()
        outputs.append(separate(modules, mixture, return_trace=True))
    (packed, first), (masked, second) = outputs
    assert torch.equal(first.depth, second.depth)
    torch.testing.assert_close(packed, masked, atol=1e-9, rtol=0)


def test_what_the_classes_do():
    mixture = torch.randn(1, 2000, dtype=torch.float64)
    _, trace = separate(build("no_halting", halting_bias=20.0).eval(), mixture, return_trace=True)
    assert (trace.depth == 3).all()  # whatever the logits
    _, trace = separate(build("halting_network", halting_bias=20.0).eval(), mixture,
                        return_trace=True)
    assert (trace.depth == 1).all()
    count = {name: sum(p.numel() for p in build(name).parameters()) for name in ROWS}
    block = sum(p.numel() for p in build("papez")["masknet"].transformer.block.parameters())
    assert count["separate_blocks"] > count["papez"] + 1.5 * block
    assert count["shared_norm"] == count["papez"] - 2 * 2 * 16 * 2  # two norms, two more steps
    assert count["learned_memory"] == count["papez"] + 10 * 17
    assert count["slots_0"] == count["papez"]


def test_commands_and_listing(tmp_path, capsys):
    assert main(["ablate", "--list"]) == 0
    listed = capsys.readouterr().out
    assert all(f"{name}  " in listed for name in ROWS)
    out = str(tmp_path / "out")
    options = ["--print", "--out", out, "--", "--N_epochs", "1"]
    assert main(["ablate", "slots_4", "learned_memory", *options]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert "--num_slots 4" in first and "--N_epochs 1" in first and "papez.yaml" in first
    assert "learned_memory/experiment.yaml" in second
    text = (tmp_path / "out/learned_memory/experiment.yaml").read_text()
    assert f"separator: !include:{HPARAMS / 'ablations/learned_memory.yaml'}" in text
    assert main(["ablate", "slots_5", "--out", out]) == 2
    assert "slots_5: no such ablation; there are: papez, slots_0" in capsys.readouterr().err
    assert main(["ablate", "soft", "--out", out, "--report"]) == 2
    assert "none of soft is finished" in capsys.readouterr().err
    assert Path(train_command("soft", ROWS["soft"], tmp_path, Path("e.yaml"), [])[1]).is_file()


@pytest.mark.parametrize("knobs, message", [
    ({"chunk_tokens": 15}, "chunk_tokens is 15"), ({"num_heads": 3}, "num_heads is 3"),
    ({"num_slots": 17}, "num_slots is 17"), ({"halting_threshold": 1.5}, "halting_threshold is 1"),
    ({"halting_threshold": 0}, "halting_threshold is 0"), ({"num_steps": 0}, "max_depth|num_steps"),
    ({"ffn_dim": 0}, "ffn_dim is 0"), ({"dropout": 1.0}, "dropout is 1.0"),
    ({"kernel_stride": 9}, "kernel_stride is 9"), ({"max_depth": 4}, "max_depth is 4"),
    ({"min_train_depth": 4}, "min_train_depth is 4"), ({"num_spks": 0}, "num_spks is 0"),
    ({"halting_bias": float("nan")}, "halting_bias is nan"), ({"num_heads": 0}, "num_heads is 0"),
])
def test_knobs_that_do_not_fit_name_their_key(knobs, message):
    with pytest.raises(UserError, match=message):
        build("papez", **knobs)
