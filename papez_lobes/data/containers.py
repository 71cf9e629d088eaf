"""Files by their first and last bytes: what is not audio, and whether an Ogg file is whole."""

import os
import struct
from pathlib import Path

SPHERE = b"NIST_1A"  # begins a SPHERE file, whose header of 1024 bytes is text
# (offset, bytes there, what the file is)
SIGNATURES = (
    (4, b"ftyp", "MPEG-4 (m4a, mp4, 3gp); convert it: `ffmpeg -i IN OUT.wav`"),
    (0, b"\x1a\x45\xdf\xa3", "Matroska or WebM; convert it: `ffmpeg -i IN OUT.wav`"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "Windows Media; convert it: `ffmpeg -i IN OUT.wav`"),
    (0, b"#!AMR", "AMR; convert it: `ffmpeg -i IN OUT.wav`"),
    (0, b"\xff\xf1", "AAC; convert it: `ffmpeg -i IN OUT.wav`"),
    (0, b"\xff\xf9", "AAC; convert it: `ffmpeg -i IN OUT.wav`"),
    (0, b"MAC ", "Monkey's Audio; convert it: `ffmpeg -i IN OUT.wav`"),
    (0, b"wvpk", "WavPack; convert it: `ffmpeg -i IN OUT.wav`"),
    (0, b"ajkg", "Shorten; convert it: `ffmpeg -i IN OUT.wav`"),
    (0, b"PK\x03\x04", "a zip archive; unpack it"),
    (0, b"\x1f\x8b", "a gzip archive; unpack it"),
    (0, b"BZh", "a bzip2 archive; unpack it"),
    (0, b"\xfd7zXZ\x00", "an xz archive; unpack it"),
    (0, b"\x28\xb5\x2f\xfd", "a zstd archive; unpack it"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it"),
    (0, b"Rar!", "a rar archive; unpack it"),
    (257, b"ustar", "a tar archive; unpack it"),
    (0, b"%PDF", "a PDF; leave it out"),
    (0, b"\x89PNG", "a picture; leave it out"),
    (0, b"\xff\xd8\xff\xe0", "a picture; leave it out"),
    (0, b"version https://git-lfs.github.com/spec/", "a Git LFS pointer; run `git lfs pull`"),
    (0, b"/annex/objects/", "a git-annex pointer; run `git annex get`"),
)
WEB_PAGE = (b"<!doctype html", b"<html", b"<?xml")
PRINTABLE = bytes({9, 10, 12, 13, *range(32, 127), *range(128, 256)})
# An Ogg page: "OggS", version, type, granule position, serial, number, checksum, segments
OGG_PAGE = struct.Struct("<4sBBqIIIB")
LARGEST_OGG_PAGE = OGG_PAGE.size + 255 + 255 * 255
END_OF_STREAM = 4  # flag in a page's type


def describe_content(head: bytes) -> str | None:
    """Name what a file is that is certainly not audio, and say what to do about it.

    Arguments
    ---------
    head : bytes
        Its first 1024 bytes, or all of a shorter file.

    Returns
    -------
    str or None
        None if the file may be audio.

    Example
    -------
    >>> describe_content(b"PK\\x03\\x04...")
    'a zip archive; unpack it'
    """
    for offset, signature, content in SIGNATURES:
        if head[offset:].startswith(signature):
            return content
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(WEB_PAGE):
        return "a web page, as failed downloads leave; download it again"
    if not head.strip(b"\0"):
        return "zeros, as interrupted downloads leave; download it again"
    if _is_text(head) and not head.startswith(SPHERE):
        return "text; leave it out"
    return None


def _is_text(head: bytes) -> bool:
    """True for printable UTF-8. The last character may be cut."""
    return not head.translate(None, PRINTABLE) and "\ufffd" not in head.decode(
        errors="replace").rstrip("\ufffd")


def ogg_flaw(path: str | Path) -> str | None:
    """Tell from its last page whether an Ogg file (Vorbis, Opus, FLAC) has been cut.

    Arguments
    ---------
    path : str or pathlib.Path
        Ogg file.

    Returns
    -------
    str or None
        What is missing; None if the file is whole.
    """
    with open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - 2 * LARGEST_OGG_PAGE))
        tail = file.read()
    begin = tail.rfind(b"OggS")
    if begin < 0:  # a large tag behind the audio
        return None
    page = tail[begin:]
    if len(page) < OGG_PAGE.size:
        return "its last page is not whole"
    _, _, kind, *_, segments = OGG_PAGE.unpack_from(page)
    lengths = page[OGG_PAGE.size : OGG_PAGE.size + segments]
    if len(lengths) < segments or len(page) < OGG_PAGE.size + segments + sum(lengths):
        return "its last page is not whole"
    return None if kind & END_OF_STREAM else "its last page is not marked as the end"
