"""The average of several bundles, by a command."""

from functools import partial

import pytest
import torch

from papez_lobes.cli.main import main
from papez_lobes.errors import UserError
from papez_lobes.inference.bundle import load_bundle, read_bundle
from papez_lobes.inference.soup import average_bundles
from tests.tiny import write_tiny_bundle


@pytest.fixture
def branches(tmp_path):
    return [write_tiny_bundle(tmp_path / str(seed), seed=seed) for seed in range(3)]


def weights(bundle):
    return {f"{part}.{name}": value for part, module in read_bundle(bundle)[0].items()
            for name, value in module.state_dict().items()}


def test_the_weights_are_the_mean_and_a_bundle_given_twice_counts_twice(branches, tmp_path):
    soup = average_bundles([*branches, branches[0]], tmp_path / "soup")
    first, second, third = map(weights, branches)
    mean = weights(soup)
    assert mean.keys() == first.keys() and any(not first[k].equal(second[k]) for k in first)
    for name, value in mean.items():
        expected = (2 * first[name].double() + second[name] + third[name]) / 4
        torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)
    assert load_bundle(soup).separate_batch(torch.randn(1, 800)).isfinite().all()


def test_the_command_refuses_what_cannot_be_averaged_in_one_line(branches, tmp_path, capsys):
    deeper = write_tiny_bundle(tmp_path / "deeper", seed=4, halting_bias=-3)
    out = tmp_path / "out"
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("mine")
    run = partial(refused, capsys)
    assert "needs two bundles or more" in run(branches[0], "--out", out)
    assert "deeper: has halting_bias -3" in run(branches[0], deeper, "--out", out)
    assert "nothing: no such bundle" in run(branches[0], tmp_path / "nothing", "--out", out)
    assert "is not a bundle" in run(*branches, "--out", mine, "--overwrite")
    assert not out.exists() and (mine / "notes.txt").read_text() == "mine"
    assert main(["average", *map(str, branches), "--out", str(out)]) == 0
    assert "out: exists" in run(*branches, "--out", out)


@pytest.mark.parametrize("name, difference", [
    ("ablations/no_halting", "halting"), ("ablations/disjoint_chunks", "DisjointBlock"),
    ("ablations/learned_memory", "memory"), ("skim", "attend_padding"),
])
def test_different_separators_are_not_averaged_in_either_order(tmp_path, name, difference):
    both = [write_tiny_bundle(tmp_path / "papez", "papez"),
            write_tiny_bundle(tmp_path / "other", name)]
    for order in (both, both[::-1]):
        with pytest.raises(UserError, match=f"has .*{difference}.*average branches of one"):
            average_bundles(order, tmp_path / "out")


def refused(capsys, *words):
    capsys.readouterr()
    status = main(["average", *map(str, words)])
    said = capsys.readouterr().err
    assert status == 2 and said.startswith("papez average: ") and said.count("\n") == 1
    return said


def test_bundles_that_could_run_code_are_refused_unless_they_are_trusted(branches, tmp_path):
    file = branches[1] / "hyperparams.yaml"
    file.write_text(file.read_text() + "\nshell: !apply:os.getcwd\n")
    with pytest.raises(UserError, match="trust"):
        average_bundles(branches, tmp_path / "out")
    average_bundles(branches, tmp_path / "out", trust=True)
