"""`papez export BUNDLE OUT.pte`, run by ExecuTorch, against torch."""

import numpy as np
import pytest
import torch

from papez_lobes.cli.main import main
from papez_lobes.inference.bundle import load_bundle
from papez_lobes.separator import Separator
from tests.tiny import write_tiny_bundle
from tests.trees import voice

pytestmark = pytest.mark.slow
SECONDS, RATE = 1.5, 8000


@pytest.mark.parametrize("name, overrides", (
    ("papez_small", {"halting_bias": -20.0}), ("papez_small", {"halting_bias": 0.5}),
    ("papez", {"num_spks": 3, "pruning": "soft"}),
))
def test_it_equals_torch(tmp_path, name, overrides):
    runtime = pytest.importorskip("executorch.runtime")
    bundle, path = write_tiny_bundle(tmp_path / "mine", name, **overrides), tmp_path / "mine.pte"
    assert main(["export", str(bundle), str(path), "--seconds", str(SECONDS)]) == 0
    method = runtime.Runtime.get().load_program(path).load_method("forward")
    rng = np.random.default_rng(0)
    mixture = torch.from_numpy(voice(0, SECONDS, rng) + voice(1, SECONDS, rng))[None].float()
    estimates, depth = method.execute([mixture])
    with torch.inference_mode():
        wanted, trace = Separator.of(load_bundle(bundle).mods)(mixture, return_trace=True)
    assert torch.equal(depth, trace.depth)
    assert (estimates - wanted).abs().max() <= 1e-4


def test_mistakes_are_one_line(tmp_path, capsys):
    bundle = write_tiny_bundle(tmp_path / "mine")
    for words, message in (
        (["a.pte"], "needs --seconds"), (["a.onnx", "--seconds", "1"], "no fixed length"),
        (["a.pte", "--seconds", "1", "--weights", "int8"], "weights in float32"),
    ):
        assert main(["export", str(bundle), *words]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
