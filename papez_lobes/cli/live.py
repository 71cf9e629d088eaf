"""Separate what a microphone hears, or a stream of samples, as it comes."""

import argparse
import itertools
import queue
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from papez_lobes.cli.options import add_dtype, add_trust
from papez_lobes.errors import UserError

FORMATS = {"s16le": ("<i2", 32768.0), "f32le": ("<f4", 1.0)}  # NumPy's type, and full scale
BLOCK_SECONDS = 0.02  # of samples that are read at a time
LOAD = 0.5  # largest real-time factor of a stream whose bundle is not named


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `papez live`."""
    parser.add_argument("source", nargs="?", default="microphone", metavar="microphone|-",
                        help="microphone (default; it needs the package sounddevice), or - for "
                        "raw samples with one channel on standard input")
    parser.add_argument("-o", "--out", metavar="FOLDER", help="write live_s1.wav, live_s2.wav, ... "
                        "there (default: raw samples on standard output, the speakers as channels)")
    parser.add_argument("--play", type=int, metavar="N", help="play speaker N (with sounddevice)")
    parser.add_argument("-l", "--latency", type=float, default=0.5, metavar="S",
                        help="delay in seconds; a longer one computes less (default: 0.5)")
    parser.add_argument("-n", "--bundle", metavar="BUNDLE", help="see `papez separate "
                        "--help` (default: the best one whose stream takes at most half of real "
                        "time here)")
    parser.add_argument("-d", "--device", help="cuda, mps, cpu, ...")
    parser.add_argument("--rate", type=int, metavar="HZ", help="sampling rate of the source, and "
                        "of raw samples that are written (default: the model's)")
    parser.add_argument("--format", choices=FORMATS, default="s16le", help="of raw samples: 16-bit "
                        "integers (default) or 32-bit floating point, little-endian")
    parser.add_argument("--overwrite", action="store_true", help="replace estimates that exist")
    add_dtype(parser)
    add_trust(parser)


def run(arguments: argparse.Namespace) -> None:
    """Separate until the source ends or Ctrl-C; all that was heard is written."""
    from papez_lobes.data.resampling import Resampler
    from papez_lobes.inference.interface import load
    from papez_lobes.inference.windows import check_latency, stream_cost

    if arguments.source not in ("microphone", "-"):
        raise UserError(f"{arguments.source}: name microphone or -; `papez separate` is for files")
    check_latency(arguments.latency)
    separator = load(
        arguments.bundle, arguments.device, arguments.dtype, trust=arguments.trust,
        largest_rtf=LOAD / stream_cost(arguments.latency))
    rate = separator.sample_rate if arguments.rate is None else arguments.rate
    if rate < 1:
        raise UserError(f"--rate {rate}: it must be a positive number of Hz")
    stream = separator.stream(arguments.latency)
    before, behind = Resampler(rate, separator.sample_rate), Resampler(separator.sample_rate, rate)
    heard, busy = 0, 0.0
    with _source(arguments, rate) as blocks, _sink(arguments, rate, separator) as write:
        try:
            for block in blocks:
                heard += block.size
                started = time.perf_counter()
                estimates = behind.feed(stream.feed(before.feed(block)))
                busy += time.perf_counter() - started
                write(estimates)
        except KeyboardInterrupt:  # the usual end of a recording
            pass
        if not heard:
            raise UserError(f"{arguments.source}: gave no samples")
        write(behind.feed(stream.feed(before.flush())))
        write(behind.feed(stream.flush()))
        write(behind.flush(heard))
    seconds = heard / rate
    print(f"papez live: {seconds:.1f} s separated, delay {arguments.latency:g} s, "
          f"real-time factor {busy / seconds:.3f}", file=sys.stderr)


@contextmanager
def _source(arguments, rate) -> Iterator[Iterator]:
    """Blocks [n], float32, of the microphone or of standard input."""
    frames = max(1, round(BLOCK_SECONDS * rate))
    if arguments.source == "-":
        yield _raw_blocks(sys.stdin.buffer, frames, *FORMATS[arguments.format])
        return
    sounddevice = _sounddevice()
    blocks = queue.Queue()

    def hear(samples, count, moment, status):
        """Hand over what the microphone gave; called by the audio system."""
        if status:
            print(f"papez live: {status}", file=sys.stderr)
        blocks.put(samples[:, 0].copy())

    with _device_errors(sounddevice), sounddevice.InputStream(
        samplerate=rate, channels=1, dtype="float32", blocksize=frames, callback=hear
    ):
        print("papez live: listening; Ctrl-C ends", file=sys.stderr)
        yield (blocks.get() for _ in itertools.count())


def _raw_blocks(file, frames, kind, full_scale):
    """Samples of a pipe as they come, a block of at most `frames` at a time."""
    import numpy as np

    size, rest = np.dtype(kind).itemsize, b""
    while content := file.read1(frames * size):
        content = rest + content
        whole = len(content) // size * size
        rest = content[whole:]  # a pipe may split a sample
        if whole:
            samples = np.frombuffer(content[:whole], kind).astype(np.float32)
            if not np.isfinite(samples).all():
                raise UserError("-: holds NaN or infinite samples; is it --format f32le?")
            yield samples / np.float32(full_scale)


@contextmanager
def _sink(arguments, rate, separator) -> Iterator[Callable]:
    """A function that takes estimates [C, n]."""
    if arguments.play is not None:
        if not 1 <= arguments.play <= separator.num_speakers:
            raise UserError(f"--play {arguments.play}: this bundle has speakers 1 to "
                            f"{separator.num_speakers}")
        sounddevice = _sounddevice()
        with _device_errors(sounddevice), sounddevice.OutputStream(
            samplerate=rate, channels=1, dtype="float32"
        ) as speaker:
            yield lambda estimates: speaker.write(estimates[arguments.play - 1][:, None].copy())
    elif arguments.out is not None:
        from papez_lobes.data.tracks import TrackWriter
        from papez_lobes.inference.recordings import estimate_paths

        paths = estimate_paths(Path(arguments.out), "live", separator.num_speakers)
        with TrackWriter(paths, rate, overwrite=arguments.overwrite) as writer:
            yield writer.write
    elif sys.stdout.isatty():
        raise UserError("name --out FOLDER, --play N, or a pipe that takes raw samples")
    else:
        yield _raw_writer(*FORMATS[arguments.format])


def _raw_writer(kind, full_scale):
    """A function that writes estimates [C, n] to standard output, the speakers as channels."""
    import numpy as np

    def write(estimates):
        """Write [C, n] sample by sample; integers are clipped at full scale."""
        samples = estimates.T * full_scale
        if kind == "<i2":
            samples = np.rint(samples).clip(-full_scale, full_scale - 1)
        try:
            sys.stdout.buffer.write(samples.astype(kind).tobytes())
            sys.stdout.buffer.flush()
        except BrokenPipeError as error:
            raise UserError("standard output was closed before the end") from error

    return write


def _sounddevice():
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # OSError: without the PortAudio library
        raise UserError(
            f"the microphone and speakers need the package sounddevice ({error}): `pip install "
            "sounddevice`, or pipe raw samples: arecord -t raw -f S16_LE -r 8000 | papez live - -o "
            "OUT"
        ) from error
    return sounddevice


@contextmanager
def _device_errors(sounddevice) -> Iterator[None]:
    """Turn the errors of the audio system into one line."""
    try:
        yield
    except sounddevice.PortAudioError as error:
        raise UserError(f"the microphone or speakers cannot be used: {error}") from error
