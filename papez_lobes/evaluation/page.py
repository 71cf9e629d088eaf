"""An evaluation as a page: how the scores are spread, and the worst mixtures to hear and see."""

import base64
import html
from pathlib import Path
from urllib.parse import quote

import numpy as np

from papez_lobes.data.audio import write_bytes
from papez_lobes.evaluation.depths import depth_line, describe_depths
from papez_lobes.evaluation.evaluate import file_stem, write_examples
from papez_lobes.evaluation.pictures import draw_separation, new_figure, png_of
from papez_lobes.evaluation.summary import SHOWN, cell, notes

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: #222; background: #fff; }
table { border-collapse: collapse; margin: 1rem 0; }
td, th { padding: .2rem .7rem; border-bottom: 1px solid #ddd; text-align: right; }
td:first-child, th:first-child { text-align: left; }
img { max-width: 100%; }
audio { height: 2rem; width: 11rem; vertical-align: middle; }
.players { display: flex; flex-wrap: wrap; gap: .3rem 1rem; margin: .4rem 0; }
.players label { display: flex; flex-direction: column; font-size: .85em; color: #555; }
code { overflow-wrap: anywhere; }
"""


def write_page(evaluation, groups, about, folder):
    """Write `evaluation.html`, and beside it `worst/` with the signals and pictures it shows.

    It needs no network; move the two together.

    Arguments
    ---------
    evaluation : papez_lobes.evaluation.evaluate.Evaluation
    groups, about : dict
        Of `papez_lobes.evaluation.summary`.
    folder : str or pathlib.Path
        Where to.

    Returns
    -------
    pathlib.Path
        The page.
    """
    folder = Path(folder)
    told = notes(groups)
    if evaluation.depths:
        told.append(depth_line(describe_depths(evaluation.depths)))
    parts = [_table(groups), *(f"<p>{_text(note)}</p>" for note in told),
             _image(_spread(evaluation.rows), "how SI-SNRi is spread")]
    files = write_examples(evaluation.worst, folder / "worst", evaluation.sample_rate)
    parts.append(f"<h2>The worst {len(evaluation.worst)}</h2>")
    for example in evaluation.worst:
        own = files[example.row["snt_id"]]
        parts.append(_example(example, own, folder, evaluation.sample_rate))
    facts = "".join(f"<tr><td>{_text(key)}</td><td><code>{_text(value)}</code></td></tr>"
                    for key, value in about.items())
    parts.append(f"<h2>How it was measured</h2><table>{facts}</table>")
    title = about.get("bundle", "evaluation")
    page = (f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{_text(title)}</title>"
            f"<style>{STYLE}</style><h1>{_text(title)}</h1>{''.join(parts)}</html>\n")
    path = folder / "evaluation.html"
    write_bytes(path, page.encode())
    shown = {file for own in files.values() for file in own.values()}
    shown |= {_picture_of(name, folder) for name in files}
    for file in (folder / "worst").iterdir():  # those of an earlier evaluation in this folder
        if file.suffix in (".wav", ".png") and file not in shown:
            file.unlink()
    return path


def _text(value):
    return html.escape(str(value))


def _table(groups):
    shown = [name for name in SHOWN if name in groups["all"]]
    head = "".join(f"<th>{_text(SHOWN[name][0])}</th>" for name in shown)
    rows = ""
    for name, group in groups.items():
        cells = "".join(f"<td>{_text(cell(group, key))}</td>" for key in shown)
        rows += f"<tr><td>{_text(name)}</td><td>{group['mixtures']}</td>{cells}</tr>"
    return (f"<table><tr><th></th><th>mixtures</th>{head}</tr>{rows}</table>"
            "<p>In brackets: the 95 % interval of the mean, by a bootstrap.</p>")


def _spread(rows):
    """A PNG: histogram of the mixtures' SI-SNRi, and each source's against its SI-SNR before."""
    figure, (left, right) = new_figure(1, 2, (10, 3.4))
    gained = np.array([row["si_snr_i"] for row in rows])
    gained = gained[np.isfinite(gained)]
    left.hist(gained, bins=min(40, max(5, len(rows) // 5)), color="#4878a8")
    if gained.size:
        left.axvline(gained.mean(), color="#b03030", label=f"mean {gained.mean():.2f}")
        left.legend(frameon=False)
    left.set(xlabel="SI-SNRi, dB", ylabel="mixtures")
    # the mean over the sources of a mixture is always near 0 dB before
    sources = [name for name in rows[0] if name.startswith("si_snr_i_s")]
    gained = np.array([row[name] for row in rows for name in sources])
    given = np.array([row[name.replace("_i_", "_")] for row in rows for name in sources]) - gained
    right.scatter(given, gained, s=8, alpha=0.5, color="#4878a8")
    right.axhline(0, color="#999", linewidth=0.8)
    right.set(xlabel="SI-SNR of the mixture to a source, dB", ylabel="SI-SNRi of the source, dB")
    return png_of(figure)


def _image(content, what):
    data = base64.b64encode(content).decode()
    return f"<img alt='{_text(what)}' src='data:image/png;base64,{data}'>"


def _picture_of(name, folder):
    return folder / "worst" / f"{file_stem(name)}.png"


def _example(example, files, folder, sample_rate):
    name, speakers = example.row["snt_id"], example.sources.shape[1]
    gains = [example.row[f"si_snr_i_s{number}"] for number in range(1, speakers + 1)]
    picture = draw_separation(
        _picture_of(name, folder), example.mixture, example.sources,
        np.nan_to_num(example.estimates), example.depth, sample_rate,
        [f"estimate {number} ({gain:+.1f} dB SI-SNRi)" for number, gain in enumerate(gains, 1)],
    )
    players = "".join(
        f"<label>{_text(kind)}<audio controls preload='none' src='{_link(path, folder)}'></audio>"
        "</label>" for kind, path in files.items()
    )
    gain = example.row["si_snr_i"]
    said = "not defined" if np.isnan(gain) else f"{gain:+.2f} dB"
    return (f"<h3>{_text(name)}: {said}</h3>"
            f"<div class='players'>{players}</div>"
            f"<img loading='lazy' alt='spectrograms' src='{_link(picture, folder)}'>")


def _link(path, folder):
    return quote(Path(path).relative_to(folder).as_posix())
