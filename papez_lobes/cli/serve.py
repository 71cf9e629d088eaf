"""Serve a web page on which recordings are separated."""

import argparse
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from papez_lobes.cli.options import add_dtype, add_trust
from papez_lobes.errors import UserError

LOOPBACK = "127.0.0.1"
MEGABYTES = 200  # of an upload
KEEP_SECONDS = 600  # that uploads and estimates are kept
QUEUE = 20  # recordings that wait
SYSTEM_FONTS = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `papez serve`."""
    parser.add_argument("-n", "--bundle", metavar="BUNDLE", help="see `papez separate --help`")
    parser.add_argument("-d", "--device", help="cuda, mps, cpu, ...")
    parser.add_argument("--host", default=LOOPBACK, metavar="ADDRESS", help="address to listen at; "
                        "0.0.0.0 lets everybody in who reaches this machine (default: %(default)s, "
                        "this machine alone)")
    parser.add_argument("--port", type=int, default=7860, metavar="N",
                        help="0 is any that is free (default: %(default)s)")
    parser.add_argument("--max-megabytes", type=int, default=MEGABYTES, metavar="N",
                        help="greatest size of a recording (default: %(default)s)")
    parser.add_argument("--keep-seconds", type=int, default=KEEP_SECONDS, metavar="S",
                        help="recordings and estimates are deleted after that time (default: "
                        "%(default)s)")
    parser.add_argument("-j", "--jobs", type=int, default=1, metavar="N", help="recordings at "
                        "once; others wait in a queue (default: 1)")
    add_dtype(parser)
    add_trust(parser)


def run(arguments: argparse.Namespace) -> None:
    """Serve until Ctrl-C or SIGTERM. All files lie in one temporary folder, which is deleted."""
    for name in ("max_megabytes", "keep_seconds", "jobs"):
        if getattr(arguments, name) < 1:
            option = "--" + name.replace("_", "-")
            raise UserError(f"{option} {getattr(arguments, name)}: it must be 1 or more")
    port = _check_address(arguments.host, arguments.port)
    with tempfile.TemporaryDirectory(prefix="papez-serve-") as folder:
        os.environ |= {"GRADIO_TEMP_DIR": str(Path(folder, "cache")),
                       "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}
        gradio = _gradio()
        from papez_lobes.inference.batch import BatchOptions, BatchSeparator
        from papez_lobes.inference.interface import load

        model = {name: getattr(arguments, name) for name in ("bundle", "device", "dtype", "trust")}
        separator = load(**model)
        options = BatchOptions(model, folder, plot=True)
        page = _page(gradio, BatchSeparator(options, separator), arguments)
        page.queue(max_size=QUEUE, default_concurrency_limit=arguments.jobs)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        page.launch(
            server_name=arguments.host, server_port=port, share=False, ssr_mode=False,
            quiet=True, max_file_size=f"{arguments.max_megabytes}mb", footer_links=[],
            theme=gradio.themes.Default(**SYSTEM_FONTS), prevent_thread_lock=True,
            allowed_paths=[folder],
        )
        print(f"papez serve: {page.local_url}", file=sys.stderr, flush=True)
        try:
            page.block_thread()
        finally:
            page.close()


def _check_address(host, port):
    """The port; a free one for 0, which Gradio does not know.

    Refuses an address that is not this machine's, and a port that is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host, port), family=family) as found:
            return found.getsockname()[1]
    except (OSError, OverflowError, UnicodeError) as error:
        raise UserError(f"--host {host} --port {port}: cannot listen there ({error}); name another "
                        "--port, or an address of this machine") from error


def _gradio():
    try:
        import gradio
    except ImportError as error:
        raise UserError("the page needs gradio: `pip install papez-lobes[web]`") from error
    return gradio


def _page(gradio, batch_separator, arguments):
    """The page: a recording in, and its speakers and spectrograms out."""
    count = batch_separator.separator.num_speakers
    often = max(1, arguments.keep_seconds // 10)
    with gradio.Blocks(
        title="Papez", analytics_enabled=False, delete_cache=(often, arguments.keep_seconds)
    ) as page:
        gradio.Markdown(
            f"# Papez\nSeparates a recording of {count} speakers into one track each. The files "
            f"stay on this server, which deletes them after {arguments.keep_seconds} seconds."
        )
        with gradio.Row():
            with gradio.Column(scale=2, min_width=260):
                recording = gradio.File(
                    label=f"Recording, at most {arguments.max_megabytes} MB", height=150)
                start = gradio.Button("Separate", variant="primary")
                note = gradio.Markdown()
            with gradio.Column(scale=3, min_width=320):
                tracks = [
                    gradio.Audio(label=f"Speaker {number}", interactive=False, type="filepath",
                                 buttons=["download"])
                    for number in range(1, count + 1)
                ]
        picture = gradio.Image(show_label=False, interactive=False, buttons=["download"])

        def separate(path, progress=gradio.Progress()) -> Iterator:  # noqa: B008
            """Separate an uploaded file; the path is None where there is none."""
            nothing = [None] * (count + 1)
            if path is None:
                yield [*nothing, "Choose a recording first."]
                return
            options = batch_separator.options
            with tempfile.TemporaryDirectory(dir=options.out) as folder:
                one = replace(options, out=folder)
                outcome = _separate(one, batch_separator.separator, Path(path), progress)
                if outcome.report is None:
                    yield [*nothing, outcome.reason.replace(path, Path(path).name)]
                else:  # Gradio copies the files before it goes on here, and they are deleted
                    yield [*map(str, outcome.report.paths), _line(outcome.report)]

        start.click(separate, recording, [*tracks, picture, note])
    return page


def _separate(options, separator, path, progress):
    """The outcome of one file."""
    from papez_lobes.data.audio import audio_info
    from papez_lobes.inference.batch import BatchSeparator
    from papez_lobes.inference.recordings import Recording

    done, seconds = 0.0, None

    def show(part):
        """Move the page's progress bar by a number of seconds."""
        nonlocal done
        done += part
        if seconds:
            progress(min(1.0, done / seconds), desc=f"{done:.0f} of {seconds:.0f} s")

    with suppress(UserError):  # which is reported below
        seconds = audio_info(path).seconds
    return BatchSeparator(options, separator)(Recording(str(path), path.stem), show)


def _line(report):
    """What a user should know about the estimates."""
    line = f"{report.seconds:.1f} s separated, real-time factor {report.real_time_factor:.2f}."
    if report.flaw:
        line += f" {report.flaw[0].upper()}{report.flaw[1:]}; what is there was separated."
    if report.lone_voice:
        line += (f" Probably one voice only, speaker {report.lone_voice}: the others are "
                 f"{report.margin_db:.0f} dB softer.")
    return line
