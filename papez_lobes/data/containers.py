"""Contents of files by their bytes: what is not audio, and whether Ogg and MP3 files are whole."""

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
    (0, b"\xff\xd8\xff", "a picture; leave it out"),
    (0, b"version https://git-lfs.github.com/spec/", "a Git LFS pointer; run `git lfs pull`"),
    (0, b"/annex/objects/", "a git-annex pointer; run `git annex get`"),
)
WEB_PAGE = (b"<!doctype html", b"<html", b"<?xml")
PRINTABLE = bytes({9, 10, 12, 13, *range(32, 127), *range(128, 256)})
# An Ogg page: "OggS", version, type, granule position, serial, number, checksum, segments
OGG_PAGE = struct.Struct("<4sBBqIIIB")
LARGEST_OGG_PAGE = OGG_PAGE.size + 255 + 255 * 255
END_OF_STREAM = 4  # flag in a page's type
# MPEG audio, layer III: kbit/s by the header's index, Hz by version and index
BITRATES_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
BITRATES_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
MP3_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
MP3_DELAY = 8  # frames, at most, that encoder and decoder add and the header takes off
MP3_TAGS = (b"TAG", b"APETAGEX", b"LYRICSBEGIN", b"ID3")


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


def truncated(detail: str) -> str:
    """Word the flaw of a file that is cut short."""
    return f"is truncated ({detail}); copy it again or leave it out"


def ogg_flaw(path: str | Path) -> str | None:
    """Tell from its last page whether an Ogg file (Vorbis, Opus, FLAC) has been cut.

    Arguments
    ---------
    path : str or pathlib.Path
        Ogg file.

    Returns
    -------
    str or None
        What is wrong; None if the file is whole.
    """
    with open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - 2 * LARGEST_OGG_PAGE))
        tail = file.read()
    begin = tail.rfind(b"OggS")
    if begin < 0:  # a large tag behind the audio
        return None
    page = tail[begin:]
    if len(page) < OGG_PAGE.size:
        return truncated("its last page is not whole")
    _, _, kind, *_, segments = OGG_PAGE.unpack_from(page)
    lengths = page[OGG_PAGE.size : OGG_PAGE.size + segments]
    if len(lengths) < segments or len(page) < OGG_PAGE.size + segments + sum(lengths):
        return truncated("its last page is not whole")
    return None if kind & END_OF_STREAM else truncated("its last page is not marked as the end")


def mp3_flaw(path: str | Path, samples: int) -> str | None:
    """Tell from its frames whether an MP3 file has been cut, or would be read in part only.

    Arguments
    ---------
    path : str or pathlib.Path
        MP3 file.
    samples : int
        The number of samples that the decoder takes it for. For a file without a header of its
        length, that is an estimate from the first frame's bitrate.

    Returns
    -------
    str or None
        What is wrong; None if nothing is, or the file is too unusual to tell.
    """
    content = Path(path).read_bytes()
    position = _after_id3(content)
    promised = _promised_mp3_frames(content[position : position + 256])
    frames, samples_per_frame = 0, 0
    while frame := _mp3_frame(content[position : position + 4]):
        length, samples_per_frame = frame
        position += length
        frames += position <= len(content)
    rest = content[position : position + 16]
    if rest.strip(b"\0") and not rest.startswith(MP3_TAGS):
        return None
    if promised is not None:
        frames -= 1  # the one that holds the header
        if frames < promised:
            return truncated(f"{frames} of {promised} frames")
    elif position > len(content):
        return truncated("its last frame is not whole")
    if samples < (frames - MP3_DELAY) * samples_per_frame:
        return (f"states no length, or a wrong one, so that {samples} of "
                f"{frames * samples_per_frame} samples would be read; convert it to .wav")
    return None


def _after_id3(content: bytes) -> int:
    """Where the audio begins: behind an ID3v2 tag, if there is one."""
    if content[:3] != b"ID3" or len(content) < 10:
        return 0
    size = 0
    for byte in content[6:10]:  # 7 bits each
        size = size * 128 + byte
    return size + 10


def _promised_mp3_frames(frame: bytes) -> int | None:
    """The number of frames that a Xing, Info or VBRI header in the first frame states."""
    for name, offset in ((b"Xing", 8), (b"Info", 8), (b"VBRI", 14)):
        begin = frame.find(name)
        if begin >= 0 and (name == b"VBRI" or frame[begin + 7] & 1):
            return int.from_bytes(frame[begin + offset : begin + offset + 4], "big")
    return None


def _mp3_frame(header: bytes) -> tuple[int, int] | None:
    """(bytes, samples) of a frame by its first 4 bytes; None if these begin no frame."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:  # sync and layer III
        return None
    version, bitrate, rate = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or bitrate in (0, 15) or rate == 3:
        return None
    padding = header[2] >> 1 & 1
    if version == 3:  # MPEG-1
        return 144000 * BITRATES_1[bitrate] // MP3_RATES[3][rate] + padding, 1152
    return 72000 * BITRATES_2[bitrate] // MP3_RATES[version][rate] + padding, 576
