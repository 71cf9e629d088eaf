"""Decoding by ffmpeg, where it is installed, of what libsndfile does not read (m4a, webm, ...)."""

import json
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from papez_lobes.data.containers import truncated
from papez_lobes.errors import UserError

# Formats (ffmpeg's names) whose files state how long they are. Others are guessed by bit rate.
STATE_DURATION = {"mov", "matroska", "webm", "asf", "avi", "flv"}
TOLERANCE = 0.5  # s, by which a whole file may be shorter than it states
PROTOCOLS = ("-protocol_whitelist", "file,pipe")  # a playlist cannot name addresses


class FfmpegFile:
    """The first audio stream of a file, decoded in blocks by an ffmpeg process.

    It has those attributes and methods of `soundfile.SoundFile` that reading uses. `name` is what
    messages call the file, and `kind` what it is, such as "MPEG-4". UserError if ffmpeg is not
    installed, or finds no audio in the file.
    """

    format, frames = "ffmpeg", None

    def __init__(self, path: Path, name: str, kind: str) -> None:
        ffmpeg, ffprobe = shutil.which("ffmpeg"), shutil.which("ffprobe")
        if not ffmpeg or not ffprobe:
            command = f"ffmpeg -i {shlex.quote(name)} {shlex.quote(Path(name).stem + '.wav')}"
            raise UserError(f"{name}: is {kind}, which needs ffmpeg, and that is not installed; "
                            f"install it, or convert the file elsewhere: `{command}`")
        self.name, self.kind = name, kind
        self.errors = self.process = None
        url = f"file:{path.absolute()}"  # a name may begin with a dash or hold a colon
        self._probe([ffprobe, "-v", "error", *PROTOCOLS, "-select_streams", "a:0",
                     "-show_entries", "stream=sample_rate,channels:format=duration,format_name",
                     "-of", "json", url])
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [ffmpeg, "-nostdin", "-v", "error", *PROTOCOLS, "-i", url, "-map", "0:a:0",
             "-f", "f32le", "-ac", str(self.channels), "-ar", str(self.samplerate), "-"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.errors,
        )
        self.decoded = 0  # samples per channel

    def _probe(self, command):
        """Find the rate, the number of channels, and the duration where one is stated."""
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True)
        try:
            found = json.loads(done.stdout or "{}")
        except ValueError:
            found = {}
        if done.returncode or "format" not in found:
            raise UserError(f"{self.name}: is {self.kind}, or looks like it, but cannot be decoded "
                            f"({_one_line(done.stderr)}); leave it out")
        if not found.get("streams"):
            raise UserError(f"{self.name}: is {self.kind} without sound; leave it out")
        self.samplerate = int(found["streams"][0]["sample_rate"])
        self.channels = int(found["streams"][0]["channels"])
        stated = STATE_DURATION & set(found["format"]["format_name"].split(","))
        self.seconds = float(found["format"].get("duration", 0)) if stated else 0

    def buffer_read_into(self, block: np.ndarray, dtype: str = "float32") -> int:
        """Fill a block [n, channels] as far as the file goes; returns the number of samples."""
        content = memoryview(block).cast("B")
        filled = 0
        while filled < len(content) and (count := self.process.stdout.readinto(content[filled:])):
            filled += count
        self.decoded += filled // (4 * self.channels)
        return filled // (4 * self.channels)

    def flaw(self) -> str | None:
        """Tell, at the end of the file, whether it had less than it states or is damaged."""
        failed = self.process.wait()
        self.errors.seek(0)
        reported = self.errors.read(4096)
        missing = self.seconds - self.decoded / self.samplerate
        if missing > TOLERANCE:
            return truncated(_one_line(reported), missing)
        return truncated(_one_line(reported)) if failed or reported else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process:
            self.process.kill()
            self.process.stdout.close()
            self.process.wait()
            self.errors.close()


def _one_line(stderr: bytes) -> str:
    """The first line that ffmpeg reports, without the address of its decoder."""
    line = stderr.decode(errors="replace").strip().partition("\n")[0]
    return line.rpartition("] ")[2] or "ffmpeg does not say why"
