"""papez serve in headless Chromium: upload, separate, play, download, and what is refused."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import pytest
import soundfile

from tests.tiny import ROOT, write_tiny_bundle

pytestmark = pytest.mark.slow
pytest.importorskip("gradio")
playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium")
KEEP_SECONDS = 25


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The server's process, its address and its folders: temporary, home and working folder."""
    root = tmp_path_factory.mktemp("serve")
    bundle = write_tiny_bundle(root / "bundle", "papez_small")
    folders = {name: root / name for name in ("tmp", "home", "work")}
    for folder in folders.values():
        folder.mkdir()
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {"TMPDIR": str(folders["tmp"]), "HOME": str(folders["home"]),
                   "PYTHONPATH": path, "MPLCONFIGDIR": str(folders["tmp"] / "matplotlib")}
    process = subprocess.Popen(
        [sys.executable, "-m", "papez_lobes.cli.main", "serve", "-n", str(bundle), "-d", "cpu",
         "--port", str(port), "--max-megabytes", "1", "--keep-seconds", str(KEEP_SECONDS)],
        cwd=folders["work"], env=os.environ | environment, stderr=subprocess.PIPE, text=True,
    )
    for line in process.stderr:
        if line.startswith("papez serve: "):
            break
    yield process, f"http://127.0.0.1:{port}/", folders
    process.kill()
    process.wait()


@pytest.fixture
def page(server):
    """The page in a browser, which notes the hosts that it asks."""
    if CHROMIUM is None:
        pytest.skip("needs chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--autoplay-policy=no-user-gesture-"
                                            "required"])
        page = browser.new_page(viewport={"width": 1100, "height": 1000})
        page.set_default_timeout(60000)
        page.hosts = set()
        page.on("request", lambda request: page.hosts.add(urlparse(request.url).hostname))
        page.goto(server[1])
        page.wait_for_selector("text=Drop File Here")
        yield page
        assert page.hosts <= {"127.0.0.1", None}  # None: blob: and data:
        browser.close()


def screenshot(page, name):
    """Keep a picture of the page where SCREENSHOTS names a folder."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder, f"{name}.png"), full_page=True)


def upload(page, path):
    page.set_input_files("input[type=file]", path)
    page.wait_for_selector(f"text={path.stem}")


def test_a_recording_is_uploaded_separated_played_and_downloaded(server, page, tmp_path):
    _, _, folders = server
    rate = 16000
    samples = 0.1 * np.random.default_rng(0).standard_normal(2 * rate)
    soundfile.write(tmp_path / "meeting.flac", samples, rate)
    screenshot(page, "1_start")
    upload(page, tmp_path / "meeting.flac")
    page.click("button:has-text('Separate')")
    page.wait_for_selector("text=2.0 s separated")
    page.wait_for_selector("img[src*='meeting.png']")
    time.sleep(1)  # the waveforms are drawn
    screenshot(page, "2_separated")
    page.click("button[aria-label='Play'] >> nth=0")
    page.wait_for_function(
        "[...document.querySelectorAll('audio')].some(audio => audio.currentTime > 0.2)"
        " || /0:0[12]/.test(document.body.innerText)")
    for number in (1, 2):
        link = page.locator(f"a[download='meeting_s{number}.wav']").first
        with page.expect_download() as download:
            link.click()
        info = soundfile.info(download.value.path())
        assert (info.samplerate, info.frames, info.channels) == (8000, 16000, 1)
    deadline = time.monotonic() + 3 * KEEP_SECONDS
    while kept := [path for path in folders["tmp"].rglob("meeting*") if path.is_file()]:
        assert time.monotonic() < deadline, kept
        time.sleep(1)


def test_what_is_no_audio_or_too_large_is_refused_in_words(server, page, tmp_path):
    page.click("button:has-text('Separate')")
    page.wait_for_selector("text=Choose a recording first")
    (tmp_path / "notes.wav").write_text("no audio")
    upload(page, tmp_path / "notes.wav")
    page.click("button:has-text('Separate')")
    page.wait_for_selector("text=notes.wav: not an audio file")
    assert "/tmp" not in page.inner_text("body")
    screenshot(page, "3_bad_file")
    page.reload()
    soundfile.write(tmp_path / "large.wav", np.zeros(600000), 8000)
    page.set_input_files("input[type=file]", tmp_path / "large.wav")
    page.wait_for_selector("text=maximum allowed size")
    screenshot(page, "4_too_large")


def test_nothing_is_written_elsewhere_and_nothing_is_left(server):
    process, _, folders = server
    assert [path.name.startswith("papez-serve-") for path in folders["tmp"].iterdir()
            if path.name != "matplotlib"] == [True]
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0
    left = [path for folder in folders.values() for path in folder.rglob("*")
            if path.is_file() and "matplotlib" not in path.parts]
    assert not left
