"""Contents of files by their bytes: what is not audio, and whether Ogg and MP3 files are whole."""

import os
import struct
from dataclasses import dataclass
from pathlib import Path

SPHERE = b"NIST_1A"  # begins a SPHERE file, whose header of 1024 bytes is text
# Suffixes of what libsndfile reads, and of headerless GSM 06.10. Left out are suffixes that mostly
# stand for something else: .mat (MATLAB data), .htk (features), .raw.
SNDFILE_SUFFIXES = (
    ".wav", ".wv1", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".aifc", ".au",
    ".snd", ".caf", ".w64", ".rf64", ".wave", ".bwf", ".sph", ".nist", ".voc", ".avr", ".paf",
    ".pvf", ".svx", ".iff", ".sf", ".ircam", ".wve", ".gsm",
)
# Suffixes of what ffmpeg reads, where it is installed.
FFMPEG_SUFFIXES = (
    ".m4a", ".mp4", ".m4b", ".m4v", ".mov", ".3gp", ".3g2", ".aac", ".amr", ".awb", ".wma", ".wmv",
    ".asf", ".webm", ".mkv", ".mka", ".avi", ".flv", ".mpg", ".mpeg", ".ac3", ".ape", ".wv",
    ".tta", ".spx",
)
AUDIO_SUFFIXES = SNDFILE_SUFFIXES + FFMPEG_SUFFIXES
# (offset, bytes there, what ffmpeg takes the file for)
FFMPEG_SIGNATURES = (
    (4, b"ftyp", "MPEG-4 (m4a, mp4, 3gp)"),
    (0, b"\x1a\x45\xdf\xa3", "Matroska or WebM"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "Windows Media"),
    (0, b"#!AMR", "AMR"),
    (0, b"\xff\xf1", "AAC"),
    (0, b"\xff\xf9", "AAC"),
    (0, b"MAC ", "Monkey's Audio"),
    (0, b"wvpk", "WavPack"),
    (0, b"ajkg", "Shorten"),
    (8, b"AVI ", "AVI"),
)
# (offset, bytes there, what the file is)
SIGNATURES = (
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
    """Name what a file is that is certainly not audio, and say what to do about it; or None.

    `head` is its first 1024 bytes, or all of a shorter file.

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
    text = head.decode(errors="replace").rstrip("\ufffd")  # the last character may be cut
    printable = not head.translate(None, PRINTABLE) and "\ufffd" not in text
    return "text; leave it out" if printable and not head.startswith(SPHERE) else None


def ffmpeg_kind(head: bytes, suffix: str) -> str | None:
    """Name what a file is that ffmpeg decodes and libsndfile does not; None for any other file.

    The suffix of its name counts where the first 1024 bytes say nothing.

    Example
    -------
    >>> ffmpeg_kind(b"#!AMR-WB", ""), ffmpeg_kind(bytes(9), ".MPG"), ffmpeg_kind(bytes(9), ".wav")
    ('AMR', 'a .mpg file', None)
    """
    for offset, signature, kind in FFMPEG_SIGNATURES:
        if head[offset:].startswith(signature):
            return kind
    return f"a {suffix.lower()} file" if suffix.lower() in FFMPEG_SUFFIXES else None


def truncated(detail: str, missing: float | None = None) -> str:
    """Word the flaw of a file that is cut short.

    `detail` says how it is known, and `missing` how many seconds are missing, where that is known.

    Example
    -------
    >>> truncated("3 of 8 samples", 0.625)
    'is truncated (3 of 8 samples, 0.62 s missing)'
    """
    if missing is None:
        return f"is truncated ({detail}; how much is missing is unknown)"
    return f"is truncated ({detail}, {missing:.2f} s missing)"


def ogg_flaw(path: str | Path) -> str | None:
    """Tell from its last page whether an Ogg file was cut; None if it was not."""
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


@dataclass(frozen=True)
class Mp3Frames:
    """What the frames of an MP3 file tell."""

    begin: int  # offset of the first frame of audio, behind a header of the length
    promised: int | None  # frames of audio that this header states; None without one
    frames: int  # whole frames of audio that are there
    samples_per_frame: int  # per channel
    cut: bool  # the last frame is not whole
    strange: bool  # something else follows, so that nothing can be told

    def flaw(self, sample_rate: int) -> str | None:
        """Tell whether the file has been cut."""
        if self.strange:
            return None
        if self.promised is not None and self.frames < self.promised:
            missing = (self.promised - self.frames) * self.samples_per_frame / sample_rate
            return truncated(f"{self.frames} of {self.promised} frames", missing)
        if self.promised is None and self.cut:
            return truncated("its last frame is not whole")
        return None

    def exceeds(self, samples: int) -> bool:
        """Tell whether it is longer than the number of samples that a decoder takes it for.

        For a file without a header of its length, that is an estimate from the first frame.
        """
        return not self.strange and samples < (self.frames - MP3_DELAY) * self.samples_per_frame


def mp3_frames(path: str | Path) -> Mp3Frames:
    """Count the frames of an MP3 file."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        tag, position = file.read(10), 0
        if tag.startswith(b"ID3") and len(tag) == 10:  # its size has 7 bits a byte
            position = 10 + sum(byte << 7 * place for place, byte in enumerate(tag[:5:-1]))
        begin = position
        file.seek(position)
        head = file.read(256)
        promised = _promised_mp3_frames(head)
        if promised is not None and (header := _mp3_frame(head[:4])):
            position = begin = position + header[0]
        frames, samples_per_frame = 0, 0
        file.seek(position)
        while frame := _mp3_frame(file.read(4)):
            length, samples_per_frame = frame
            position += length
            frames += position <= size
            file.seek(position)
        file.seek(position)
        rest = file.read(16)
    strange = bool(rest.strip(b"\0")) and not rest.startswith(MP3_TAGS)
    return Mp3Frames(begin, promised, frames, samples_per_frame, position > size, strange)


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
