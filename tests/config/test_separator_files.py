"""Separator files: where they are found, which of their keys are hparams, and setting those."""

import pytest

from papez_lobes import resources
from papez_lobes.config.separator_files import (
    build_modules,
    read_hyperparameters,
    separator_file,
    set_hyperparameters,
)
from papez_lobes.errors import UserError

PAPEZ = separator_file("papez")


def test_a_separator_is_found_by_name_or_path(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text(PAPEZ.read_text(encoding="utf-8"), encoding="utf-8")
    assert separator_file(mine) == mine
    assert separator_file(str(mine)) == mine
    assert separator_file("papez_official").name == "papez_official.yaml"


def test_separators_of_an_installed_package_are_found(tmp_path, monkeypatch):
    installed = tmp_path / "papez_lobes" / "hparams"
    installed.mkdir(parents=True)
    (installed / "other.yaml").write_text("Encoder: 1\n")
    (installed / "ablations.yaml").write_text("no_memory: {num_slots: 0}\n")
    monkeypatch.setattr(resources, "__file__", str(installed.parent / "resources.py"))
    assert separator_file("other") == installed / "other.yaml"
    with pytest.raises(UserError, match=r"no such separator; there are: other$"):
        separator_file("ablations")


@pytest.mark.parametrize("name", ["sandglasset", "nowhere/papez.yaml"])
def test_a_missing_separator_lists_what_there_is(name):
    with pytest.raises(UserError, match=r"no such .*papez, .*papez_official"):
        separator_file(name)


def test_hyperparameters_are_plain_values_and_references_to_them(tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text(
        "a: 3\nb: !ref <a> * 2\nc: [1, 2.5]\nd: 'text'\ne: True\nf: 1e-8\n"
        "Node: !new:collections.Counter\nalias: !ref <Node>\nname: !name:len\nmap: {x: 1}\n",
        encoding="utf-8",
    )
    hparams = read_hyperparameters(file)
    assert hparams == {"a": 3, "b": 6, "c": [1, 2.5], "d": "text", "e": True, "f": 1e-8}
    assert [type(value) for value in hparams.values()] == [int, int, list, str, bool, float]


def test_set_hyperparameters_changes_only_the_lines_of_its_hyperparameters():
    before = PAPEZ.read_text(encoding="utf-8").splitlines()
    after = set_hyperparameters(PAPEZ, {"dropout": 0.25, "pruning": "soft"}).splitlines()
    assert len(before) == len(after)
    changed = [new for old, new in zip(before, after) if old != new]
    assert [line.split(" ")[:2] for line in changed] == [["dropout:", "0.25"], ["pruning:", "soft"]]


@pytest.mark.parametrize("depth, kept", [(7, "!ref <num_steps>"), (4, "4")])
def test_reference_stays_where_it_gives_the_wanted_value(depth, kept):
    text = set_hyperparameters(PAPEZ, {"max_depth": depth, "num_steps": 7})
    assert f"\nmax_depth: {kept} " in text
    assert "max_depth: !ref <max_depth>" in text  # the node's


def test_every_kind_of_value_survives(tmp_path):
    values = {
        "dropout": 1e-8, "halting_bias": -3.0, "attend_padding": True, "pruning": "soft",
        "num_steps": 3,
    }
    file = tmp_path / "set.yaml"
    file.write_text(set_hyperparameters(PAPEZ, values), encoding="utf-8")
    hparams = read_hyperparameters(file)
    for key, value in values.items():
        assert (type(hparams[key]), hparams[key]) == (type(value), value)


@pytest.mark.parametrize("node", ["!new:nowhere.Encoder", "!ref <nothing>", "!apply:len {}"])
def test_what_cannot_be_built_is_one_line(tmp_path, node):
    file = tmp_path / "x.yaml"
    file.write_text(f"num_spks: 2\nsample_rate: 8000\nEncoder: {node}\n", encoding="utf-8")
    with pytest.raises(UserError) as error:
        build_modules(file)
    assert str(error.value).startswith(f"{file}: ") and "\n" not in str(error.value)
