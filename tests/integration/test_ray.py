"""--ray: two machines that share no folder, one of which dies in the middle; pools of workers."""

import csv
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import soundfile

from papez_lobes.cli.main import main
from papez_lobes.inference.ray_pool import KilledTask, open_pool
from tests.tiny import write_tiny_bundle
from tests.trees import write_small_tree

pytestmark = pytest.mark.slow
pytest.importorskip("ray")
COUNT = 24  # recordings


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("b") / "bundle", "papez_small")


@pytest.fixture(scope="module")
def talks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("talks")
    for number in range(COUNT):
        samples = 0.1 * np.random.default_rng(number).standard_normal(80000)
        (folder / f"day{number % 3}").mkdir(exist_ok=True)
        soundfile.write(folder / f"day{number % 3}/{number}.wav", samples, 8000)
    return folder


@pytest.fixture(scope="module")
def one_process(bundle, talks, tmp_path_factory):
    """Name -> bytes of the estimates that one process writes."""
    folder = tmp_path_factory.mktemp("one")
    assert main(["separate", str(talks), "-n", str(bundle), "-d", "cpu", "-o", str(folder)]) == 0
    return contents(folder)


def papez(*words, ray, **environment):
    """Run a command of papez, and return what it printed."""
    command = [sys.executable, "-m", "papez_lobes.cli.main", *map(str, words), "--ray", ray]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True,
                          timeout=300)


def separate(*words, ray, **environment):
    return papez("separate", *words, "-d", "cpu", ray=ray, **environment)


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def store(monkeypatch):
    """An S3 server on this machine with a bucket; gives its file system."""
    server = pytest.importorskip("moto.server")
    s3fs = pytest.importorskip("s3fs")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running.start()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    files = s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)
    files.mkdir("lab")
    yield files
    running.stop()


@pytest.fixture(scope="module")
def address():
    """Of a Ray cluster of one machine."""
    cluster = start_cluster(2)
    yield cluster.address
    cluster.shutdown()


def start_cluster(cores):
    from ray.cluster_utils import Cluster

    head = {"num_cpus": cores, "include_dashboard": False}
    return Cluster(initialize_head=True, head_node_args=head)


@pytest.fixture
def two_machines(store):
    """A Ray cluster of two nodes with a core each, and the second node."""
    cluster = start_cluster(1)
    second = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield cluster, second
    cluster.shutdown()


def test_a_machine_that_dies_costs_no_file(
    store, two_machines, bundle, talks, one_process
):
    cluster, second = two_machines
    store.put(str(talks), "lab/talks", recursive=True)
    store.pipe("lab/talks/day0/bad.wav", b"not audio")

    def kill_in_the_middle():
        deadline = time.monotonic() + 120
        while len(store.find("lab/out")) < COUNT // 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        cluster.remove_node(second, allow_graceful=False)
        killed.append(len(store.find("lab/out")))

    killed = []
    killer = threading.Thread(target=kill_in_the_middle)
    killer.start()
    words = ["s3://lab/talks", "-o", "s3://lab/out", "-n", bundle, "--json"]
    done = separate(*words, ray=cluster.address)
    killer.join()
    assert killed[0] < 2 * COUNT, "it was too late"
    assert done.returncode == 2 and f"1 of {COUNT + 1} recordings" in done.stderr, done.stderr
    assert "s3://lab/talks/day0/bad.wav: " in done.stderr
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    assert len({outcome["source"] for outcome in outcomes}) == len(outcomes) == COUNT + 1
    written = {name.removeprefix("lab/out/"): store.cat(name) for name in store.find("lab/out")}
    assert written == one_process
    done = separate(*words, "--skip-existing", ray=cluster.address)
    statuses = [json.loads(line)["status"] for line in done.stdout.splitlines()]
    assert sorted(statuses) == ["failed", *["skipped"] * COUNT]


def test_a_recording_that_kills_its_workers_fails_alone(bundle, talks, tmp_path, one_process):
    """The worker of one recording is killed each time that it reads it."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys, soundfile\n"
        "class Deadly(soundfile.SoundFile):\n"
        "    def __init__(self, file, *more, **others):\n"
        "        named = isinstance(file, (str, bytes)) and os.fsdecode(file)\n"
        "        if named and named.endswith('day1/4.wav') and 'ray' in sys.modules:\n"
        "            os.kill(os.getpid(), 9)\n"
        "        super().__init__(file, *more, **others)\n"
        "soundfile.SoundFile = Deadly\n"
    )
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    words = [talks, "-n", bundle, "-o", tmp_path / "out", "-j", "2"]
    done = separate(*words, ray="local", PYTHONPATH=path)
    assert done.returncode == 2, done.stderr
    assert "day1/4.wav: its worker was killed 3 times" in done.stderr
    assert "1 of 24 recordings could not be separated" in done.stderr
    expected = {name: content for name, content in one_process.items() if "day1/4_" not in name}
    assert contents(tmp_path / "out") == expected


def test_a_bundle_of_the_package_is_named_alone(talks, tmp_path):
    words = [talks / "day0/0.wav", "-n", "papez-small-8k", "-o", tmp_path]
    done = separate(*words, ray="local")
    assert done.returncode == 0, done.stderr
    assert sorted(contents(tmp_path)) == ["0_s1.wav", "0_s2.wav"]


def test_an_address_without_a_cluster_is_one_line(bundle, talks, capsys):
    assert main(["separate", str(talks), "-n", str(bundle), "--ray", "127.0.0.1:9"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert "--ray 127.0.0.1:9: no cluster answers" in lines[-1]


def test_evaluation_gives_the_figures_of_one_process(address, bundle, tmp_path):
    tree = write_small_tree(tmp_path / "2speakers", counts=(0, 0, 6))
    words = ["evaluate", bundle, tree, "--device", "cpu"]
    done = papez(*words, "--out", tmp_path / "ray", ray=address)
    assert done.returncode == 0, done.stderr
    assert "SDR" in done.stdout and "SI-SNR" in done.stdout
    assert main([*map(str, words), "--jobs", "1", "--out", str(tmp_path / "one")]) == 0
    tables = []
    for name in ("ray", "one"):
        with open(tmp_path / name / "results.csv", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        tables.append([{key: value for key, value in row.items() if key != "rtf"} for row in rows])
    assert tables[0] == tables[1] and len(tables[0]) >= 6 and "sdr_i" in tables[0][0]


def test_a_pool_repeats_what_a_killed_worker_did(address, tmp_path):
    marker = tmp_path / "seen"

    def die_once():
        if not marker.exists():
            marker.touch()
            os._exit(1)
        return "done again"

    with open_pool(address) as pool:
        killed, failed = pool.submit(os._exit, 1), pool.submit(divmod, 1, 0)
        again, others = pool.submit(die_once), [pool.submit(pow, number, 2) for number in range(9)]
        assert [task.result() for task in others] == [number**2 for number in range(9)]
        assert again.result() == "done again"
        with pytest.raises(ZeroDivisionError):
            failed.result()
        with pytest.raises(KilledTask, match="killed 3 times"):
            killed.result()
