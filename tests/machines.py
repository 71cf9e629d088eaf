"""Two machines: each has a name, a network address and processes of its own."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass

from tests.tiny import ROOT

README = ROOT / "recipes/WSJ0Mix/separation/README.md"
NAMES = ("machine-a", "machine-b")  # the first has rank 0: torchrun sorts them by name
SUBNET = "10.87.0"
# in namespaces of its own, a shell names the machine and becomes the command
INSIDE = 'hostname "$1" && mount --bind "$2" /etc/hosts && shift 2 && exec "$@"'
TRAINING = "train.py hparams/papez.yaml --data_folder ..."  # how launch lines end


@dataclass(frozen=True)
class Machine:
    """A machine that runs commands.

    Arguments
    ---------
    name : str
        By which the other machine reaches it.
    prefix : tuple of str
        What to write before a command that it is to run.
    space : str or None
        Its network namespace.
    """

    name: str
    prefix: tuple = ()
    space: str | None = None

    def start(self, command, **options):
        """Start a command, whose output is one stream of text."""
        return subprocess.Popen([*self.prefix, *map(str, command)], stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True, **options)

    def die(self):
        """Kill all of its processes."""
        listed = subprocess.run(["ip", "netns", "pids", self.space], capture_output=True, text=True)
        for process in map(int, listed.stdout.split()):
            os.kill(process, signal.SIGKILL)


@contextmanager
def two_machines(folder):
    """Two network namespaces with a cable between them; None where they cannot be made.

    Namespaces need Linux and root. `folder` gets a file of the machines' names.
    """
    spaces = [f"papez-{os.getpid()}-{name}" for name in NAMES]
    addresses = [f"{SUBNET}.{number}" for number in (1, 2)]
    cables = [f"papez{number}" for number in (1, 2)]
    try:
        if not shutil.which("ip") or not all(_ip("netns", "add", space) for space in spaces):
            yield None
            return
        first, second = spaces
        _ip("link", "add", cables[0], "netns", first, "type", "veth",
            "peer", "name", cables[1], "netns", second, check=True)
        for space, cable, address in zip(spaces, cables, addresses):
            _ip("-n", space, "addr", "add", f"{address}/24", "dev", cable, check=True)
            for link in ("lo", cable):
                _ip("-n", space, "link", "set", link, "up", check=True)
        hosts = folder / "hosts"
        lines = ["127.0.0.1 localhost", *map(" ".join, zip(addresses, NAMES))]
        hosts.write_text("\n".join(lines) + "\n")
        yield [Machine(name, (
            "ip", "netns", "exec", space, "unshare", "--uts", "--mount", "sh", "-c", INSIDE, "sh",
            name, str(hosts),
        ), space) for name, space in zip(NAMES, spaces)]
    finally:
        for space in spaces:
            _ip("netns", "del", space)


def _ip(*words, check=False):
    """Run `ip`; returns whether it could do it."""
    if not shutil.which("ip"):
        return False
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stderr
    return done.returncode == 0


def launch_line(endpoint):
    """The README's command that starts a training on one of two machines, up to train.py."""
    line = re.search(r"^.*torchrun --nnodes=2 (?:.*\\\n)*.*$", README.read_text("utf-8"), re.M)[0]
    line = line.removesuffix(TRAINING).replace("\\\n", " ")
    for documented, here in {
        "torchrun": f"{shlex.quote(sys.executable)} -m torch.distributed.run",
        "--nproc_per_node=4": "--nproc_per_node=1", "HOST:29500": endpoint,
    }.items():
        assert line.count(documented) == 1
        line = line.replace(documented, here)
    return ["env", *shlex.split(line)]


def slurm_script(training):
    """The README's batch script for SLURM, with one process a node, and another training."""
    blocks = re.findall(r"```bash\n(.*?)```", README.read_text("utf-8"), re.S)
    (script,) = [block for block in blocks if "#SBATCH" in block]
    assert TRAINING in script and "--nproc_per_node=4" in script
    return script.replace("--nproc_per_node=4", "--nproc_per_node=1").replace(
        TRAINING, shlex.join(training))
