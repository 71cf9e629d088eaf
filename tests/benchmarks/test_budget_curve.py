"""benchmarks/budget_curve.py at tiny size."""

import json

import pytest

from benchmarks.budget_curve import budget_curve, main
from papez_lobes.data.corpora.wsj0mix import prepare_wsj0mix
from papez_lobes.inference.bundle import load_bundle
from tests.tiny import write_tiny_bundle
from tests.trees import write_small_tree


@pytest.fixture
def case(tmp_path):
    """(manifest, bundle) of two mixtures and an untrained model."""
    tree = write_small_tree(tmp_path / "2speakers", counts=(1, 1, 2), seconds=(0.4, 0.6))
    manifest = prepare_wsj0mix(tree, tmp_path, 2, splits=("tt",))["tt"]
    return manifest, write_tiny_bundle(tmp_path / "model")


def test_every_depth_is_measured_and_the_settings_are_put_back(case, tmp_path, capsys):
    manifest, bundle = case
    out, figure = tmp_path / "curve.json", tmp_path / "curve.png"
    main([str(bundle), str(manifest), "--limit", "2", "--json", str(out), "--figure", str(figure)])
    points = json.loads(out.read_text())
    same = [point for point in points if point["series"] == "same depth"]
    assert [point["mean_depth"] for point in same] == [1, 2, 3]
    own, = (point for point in points if point["series"] == "own")
    assert own["halting_bias"] == load_bundle(bundle).mods["masknet"].transformer.halting.bias
    halting = [point["mean_depth"] for point in points if point["series"] == "halting"]
    assert halting == pytest.approx([1, 2, 3], abs=0.3)
    assert figure.stat().st_size > 5000
    assert "| every token at one depth | 2.00 |" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        main([str(bundle), str(manifest), "--json", str(out)])
    assert f"{out}: exists" in capsys.readouterr().err
    model = load_bundle(bundle)
    transformer = model.mods["masknet"].transformer
    before = transformer.halting.bias, transformer.max_depth
    budget_curve(model, manifest, 1)
    assert (transformer.halting.bias, transformer.max_depth) == before


def test_a_mistake_is_one_line(case, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["/nowhere", str(case[0])])
    assert "/nowhere: no such bundle" in capsys.readouterr().err
