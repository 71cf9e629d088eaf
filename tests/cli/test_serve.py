"""papez serve: mistakes that are told before gradio and the bundle are loaded."""

import socket
import sys

import pytest

from papez_lobes.cli import serve
from papez_lobes.cli.main import main


@pytest.mark.parametrize("words, message", [
    (["--max-megabytes", "0"], "--max-megabytes 0: it must be 1 or more"),
    (["--keep-seconds", "-1"], "--keep-seconds -1: it must be 1 or more"),
    (["-j", "0"], "--jobs 0: it must be 1 or more"),
    (["--port", "99999"], "--port 99999: cannot listen there"),
    (["--host", "203.0.113.1"], "--host 203.0.113.1 --port 7860: cannot listen there"),
])
def test_mistakes_are_one_line(words, message, capsys):
    assert main(["serve", *words]) == 2
    line, = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_port_that_is_taken_is_one_line(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["serve", "--port", port]) == 2
    line, = capsys.readouterr().err.splitlines()
    assert f"--port {port}: cannot listen there" in line


def test_port_0_is_a_free_one():
    port = serve._check_address("127.0.0.1", 0)
    assert port > 0 and serve._check_address("127.0.0.1", port) == port


def test_without_gradio_a_line_says_what_is_missing(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    assert main(["serve", "--port", port]) == 2
    assert "pip install papez-lobes[web]" in capsys.readouterr().err
