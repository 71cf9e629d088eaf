"""The page in `examples/web`, in headless Chromium, against torch."""

import json
import os
import shutil
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from papez_lobes.export.onnx_file import export_bundle
from papez_lobes.inference.bundle import load_bundle
from papez_lobes.scaling import match_mixture
from papez_lobes.separator import Separator
from tests.trees import voice

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
BUNDLE, RATE = "papez-small-8k", 8000


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The address of a copy of the page, with its packages and no model, and its folder."""
    if not CHROMIUM or not shutil.which("npm"):
        pytest.skip("needs chromium and npm")
    folder = tmp_path_factory.mktemp("web")
    for path in (ROOT / "examples/web").glob("*.*"):
        if path.suffix != ".onnx":
            shutil.copy(path, folder)
    shutil.copy(ROOT / "tests/integration/drive_web.mjs", folder)
    installed = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund"], cwd=folder, capture_output=True, text=True)
    if installed.returncode:
        pytest.skip(f"npm cannot install: {installed.stderr[-200:]}")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/", folder
    server.shutdown()


def drive(site, recording=""):
    """Open the page, choose a recording, and return what the page shows."""
    address, folder = site
    done = subprocess.run(
        ["node", "drive_web.mjs", address, str(recording), "out.json", "page.png"], cwd=folder,
        capture_output=True, text=True, timeout=300, env={**os.environ, "CHROMIUM": CHROMIUM})
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "out.json").read_text())


def test_without_a_model_the_page_says_what_to_do(site):
    shown = drive(site)
    assert shown["state"] == "failed" and "papez export" in shown["status"]


def test_the_page_separates_as_torch_does(site, tmp_path):
    address, folder = site
    export_bundle(BUNDLE, folder / "model.onnx")
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "mixture.wav", voice(0, 3.0, rng) + voice(1, 3.0, rng), RATE)
    shown = drive(site, tmp_path / "mixture.wav")
    assert shown["state"] == "done", shown["status"]

    mixture = torch.tensor(shown["samples"])[None]  # as the browser has decoded it
    wanted = soundfile.read(tmp_path / "mixture.wav")[0]
    assert np.allclose(mixture[0].numpy(), wanted, atol=1e-4)
    with torch.inference_mode():
        estimates, trace = Separator.of(load_bundle(BUNDLE).mods)(mixture, return_trace=True)
    assert shown["depth"] == trace.depth[0].tolist()
    matched = match_mixture(estimates.numpy(), mixture.numpy())
    # Rounding errors grow with each step, and more of these synthetic voices than of speech
    difference = np.abs(np.array(shown["voices"]) - matched[0].T).max()
    assert difference < 3e-3 * np.abs(matched).max()
    # nothing leaves the computer
    own = ("GET " + address, "GET blob:", "GET data:")
    assert all(request.startswith(own) for request in shown["requests"])
    assert (folder / "page.png").stat().st_size > 20_000

    (tmp_path / "noise.wav").write_bytes(b"no audio")
    assert "cannot be separated" in drive(site, tmp_path / "noise.wav")["status"]
