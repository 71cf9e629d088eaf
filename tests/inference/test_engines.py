"""Which engine is chosen, and what is said where there is none."""

import pytest

import papez_lobes
from papez_lobes.errors import UserError
from papez_lobes.inference import engines
from papez_lobes.inference.shipped import FILES, ONNX_FILE
from tests.tiny import write_tiny_bundle


@pytest.mark.parametrize("device, dtype, depth_is_set, driver, wanted", [
    (None, "float32", False, False, "onnx"), ("cpu", "float32", False, True, "onnx"),
    (None, "float32", False, True, "torch"), ("cuda", "float32", False, True, "torch"),
    ("cpu", "int8", False, False, "torch"), ("cpu", "float32", True, False, "torch"),
])
def test_onnx_is_preferred_on_a_cpu_where_no_option_needs_pytorch(
    monkeypatch, tmp_path, device, dtype, depth_is_set, driver, wanted
):
    monkeypatch.setattr(engines, "DRIVERS", [tmp_path] if driver else [tmp_path / "none"])
    assert engines.engines_for_files(device, dtype, depth_is_set)[0] == wanted


def test_apples_gpus_are_pytorchs(monkeypatch):
    monkeypatch.setattr(engines, "DRIVERS", [])
    assert not engines.has_accelerator()
    monkeypatch.setattr(engines.sys, "platform", "darwin")
    monkeypatch.setattr(engines.platform, "machine", lambda: "arm64")
    assert engines.has_accelerator()


def test_python_prefers_pytorch_and_takes_what_is_installed(monkeypatch, tmp_path):
    assert papez_lobes.load("papez-small-8k", "cpu").engine == "torch"
    for name in (*FILES, ONNX_FILE):
        (tmp_path / name).touch()
    missing = []

    def import_module(name):
        if name in missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return type("module", (), {"OnnxSeparator": "onnx", "TrainedSeparator": "torch"})

    monkeypatch.setattr(engines, "import_module", import_module)
    assert engines.separator_class(tmp_path, ["torch", "onnx"]) == "torch"
    missing.append("papez_lobes.inference.trained")
    assert engines.separator_class(tmp_path, ["torch", "onnx"]) == "onnx"
    missing.append("onnxruntime")
    with pytest.raises(UserError, match=r"needs the package .* or the package onnxruntime \(pip"):
        engines.separator_class(tmp_path, ["torch", "onnx"])


def test_a_bundle_without_an_onnx_file_is_told_in_one_line(tmp_path):
    bundle = write_tiny_bundle(tmp_path / "mine")
    assert papez_lobes.load(bundle, "cpu", engines=["onnx", "torch"]).engine == "torch"
    with pytest.raises(UserError, match=r"has no separator\.onnx; `papez export .*mine` writes it"):
        papez_lobes.load(bundle, engines=["onnx"])
