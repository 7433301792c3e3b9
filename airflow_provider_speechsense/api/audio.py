"""What a recording is, judged by its first and last bytes: container, header facts, limits.

The service takes WAV with 16-bit PCM, MP3, OggOpus, and headerless 16-bit PCM whose rate and channels are
declared. Everything else is refused here, by name, before a byte is sent.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

from airflow_provider_speechsense.exceptions import ConfigurationError, UnsupportedAudioError

#: What ``inspect`` wants of the beginning: a WAV's chunks before its samples, studio notes and a cover
#: included, and many MP3 frames.
HEAD_BYTES = 262_144
#: And of the end: OggOpus tells its length only in its last page, which has at most 65,307 bytes.
TAIL_BYTES = 65_536
#: The service refuses longer recordings.
MAX_DURATION_SECONDS = 4 * 3600
#: In Hz; the service takes PCM at 8-48 kHz.
SAMPLE_RATES = range(8_000, 48_001)
#: A WAV header has 16 bits for the number of channels.
CHANNEL_COUNTS = range(1, 65_536)

#: How each format begins. What is taken has the name of a ``Container``. Text is often an error page that
#: was saved as a recording; a long match keeps PCM from passing for it.
_SIGNATURES = {
    rb"RIFF....WAVE": "WAV",
    rb"OggS.{24,25}OpusHead": "OGG_OPUS",
    rb"ID3": "MP3",
    rb"RIFF": "RIFF but not WAVE",
    rb"RIFX": "big-endian WAV (RIFX)",
    rb"RF64|BW64": "64-bit WAV (RF64)",
    rb"OggS.{24}\x01vorbis": "Ogg with Vorbis",
    rb"OggS.{24}Speex": "Ogg with Speex",
    rb"OggS.{24}\x7fFLAC": "Ogg with FLAC",
    rb"OggS": "Ogg without Opus",
    rb"fLaC": "FLAC",
    rb"....ftyp": "MP4 or M4A",
    rb"#!AMR": "AMR",
    rb"\x1aE\xdf\xa3": "WebM or Matroska",
    rb"FORM....AIF[FC]": "AIFF",
    rb"\.snd": "Sun .au",
    rb"0&\xb2u\x8ef\xcf\x11": "WMA (ASF)",
    rb"caff": "Apple CAF",
    rb"PK\x03\x04|\x1f\x8b\x08": "a ZIP or GZIP archive",
    rb"(\xef\xbb\xbf)?\s*[<{\[][\t\r\n -\xff]{20}": "text (HTML, XML or JSON)",
}
_WAVE_PCM = 1
_WAVE_EXTENSIBLE = 0xFFFE
_WAVE_CODECS = {2: "ADPCM", 3: "floats", 6: "A-law", 7: "mu-law", 17: "IMA ADPCM", 0x31: "GSM", 0x55: "MP3"}
#: Recorders that cannot seek back leave 0, 0x7FFFF000 (SoX, espeak-ng) or 0xFFFFFFFF as the size of the data.
_PLACEHOLDER_SIZE = 0x7FFFF000
#: Opus counts time in samples at 48 kHz, whatever the rate of what was encoded.
_OPUS_CLOCK = 48_000
#: How an encoder tells the number of frames, in the first of them: LAME and most others, or Fraunhofer.
_FRAME_COUNT = re.compile(rb"(?s)(?:(?:Xing|Info)...[\x01\x03\x05\x07\x09\x0b\x0d\x0f]|VBRI.{10})(.{4})")
#: Fewer frames of one bitrate may be the quiet beginning of a recording with a variable bitrate.
_CBR_FRAMES = 10
#: In Hz, for MPEG-1; MPEG-2 has half of it, MPEG-2.5 a quarter.
_MPEG_RATES = (44_100, 48_000, 32_000)
#: Of layer III in kbit/s, for header values from 1.
_MPEG_1_BITRATES = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MPEG_2_BITRATES = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
#: By the layer bits of a frame header, for streams that turned out not to be MP3.
_MPEG_LAYERS = ("AAC (ADTS)", "MP3 with broken frames", "MPEG layer II", "MPEG layer I")

_PCM_EXAMPLE = "{'sample_rate_hertz': 8000, 'channels': 1}"
_FORMATS = f"allowed are WAV, OGG_OPUS, MP3, and {_PCM_EXAMPLE} for headerless 16-bit PCM"


class Container(StrEnum):
    """A container that the service takes."""

    WAV = "WAV"
    OGG_OPUS = "OGG_OPUS"
    MP3 = "MP3"


@dataclass(frozen=True)
class AudioFormat:
    """The form of a recording; ``container`` None is headerless PCM, which alone needs the other two."""

    container: Container | None
    sample_rate_hertz: int | None = None
    channels: int | None = None


@dataclass(frozen=True)
class AudioFacts:
    """What the bytes of a recording tell about it; None where they do not.

    :param data_offset: of PCM: where the samples begin
    :param data_bytes: of PCM: how many bytes of whole samples there really are
    :param warnings: what the service accepts, but somebody should look at
    """

    format: AudioFormat
    sample_rate_hertz: int | None
    channels: int | None
    duration_seconds: float | None
    data_offset: int = 0
    data_bytes: int | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Recording:
    name: str
    size: int
    head: bytes
    tail: bytes

    def refusal(self, fault: str, hint: str | None = None) -> UnsupportedAudioError:
        return UnsupportedAudioError(f"{self.name} {fault}", hint=hint)


class _Frame(NamedTuple):
    offset: int
    length: int
    samples: int
    sample_rate: int
    bits_per_second: int
    channels: int


def parse_format(value: str | Mapping[str, object] | AudioFormat | None) -> AudioFormat | None:
    """Read the user's ``audio_format``.

    :param value: None to detect; a container's name in any case, the API's names included; or a mapping
        with ``sample_rate_hertz`` and ``channels`` (or the API's ``audio_channel_count``) for headerless PCM
    :raises ConfigurationError: naming what is wrong, and what is allowed
    """
    if value is None or isinstance(value, AudioFormat):
        return value
    if isinstance(value, Mapping):
        return _parse_pcm(value)
    name = value.strip().upper().removeprefix("CONTAINER_AUDIO_TYPE_") if isinstance(value, str) else ""
    name = "OGG_OPUS" if name in {"OGG", "OPUS", "OGGOPUS"} else name
    if name in Container.__members__:
        return AudioFormat(Container[name])
    if name in {"PCM", "LPCM", "LINEAR16_PCM"}:
        raise ConfigurationError(f"audio_format {value!r} lacks rate and channels; write {_PCM_EXAMPLE}")
    raise ConfigurationError(f"audio_format {value!r} is unknown; {_FORMATS}")


def _parse_pcm(value: Mapping[str, object]) -> AudioFormat:
    fields = dict(value)
    if "channels" not in fields:
        fields["channels"] = fields.pop("audio_channel_count", None)
    encoding = fields.pop("audio_encoding", "LINEAR16_PCM")
    if encoding not in ("LINEAR16_PCM", "AUDIO_ENCODING_LINEAR16_PCM"):
        raise ConfigurationError(f"audio_format: audio_encoding is {encoding!r}; allowed is LINEAR16_PCM")
    if fields.keys() != {"sample_rate_hertz", "channels"}:
        raise ConfigurationError(f"audio_format has the keys {list(value)}; {_FORMATS}")
    rate = _parse_number("sample_rate_hertz", fields["sample_rate_hertz"], SAMPLE_RATES)
    return AudioFormat(None, rate, _parse_number("channels", fields["channels"], CHANNEL_COUNTS))


def _parse_number(key: str, value: object, allowed: range) -> int:
    # Airflow's templates turn numbers into strings.
    number = int(value) if isinstance(value, str) and re.fullmatch("[0-9]{1,9}", value.strip()) else value
    if isinstance(number, int) and not isinstance(number, bool) and number in allowed:
        return number
    raise ConfigurationError(f"audio_format: {key} is {value!r}; allowed are {allowed[0]}..{allowed[-1]}")


def inspect(
    head: bytes,
    *,
    size: int,
    tail: bytes = b"",
    declared: AudioFormat | None = None,
    name: str = "the recording",
) -> AudioFacts:
    """Recognise a recording and check it against what the service takes.

    :param head: its first ``HEAD_BYTES``, or all of it if there is less
    :param size: of the whole recording, in bytes
    :param tail: its last ``TAIL_BYTES``; only OggOpus needs them
    :param declared: what the user says it is; required for headerless PCM
    :param name: what errors call it
    :raises UnsupportedAudioError: saying what was found and what is wanted
    """
    recording = _Recording(name, size, head[:size], tail)
    found = _identify(recording.head)
    wanted = declared.container if declared else None
    if size == 0:
        raise recording.refusal("is empty")
    if declared and not wanted:
        if found:
            raise recording.refusal(f"is {found}, not the headerless PCM that audio_format declares")
        facts = AudioFacts(declared, declared.sample_rate_hertz, declared.channels, None, 0, size)
        facts = _measure(recording, facts)
    elif found is None:
        raise _unknown(recording, recording.head)
    elif found not in _READERS:
        raise recording.refusal(f"is {found}, which the service does not take")
    elif wanted and wanted != found:
        raise recording.refusal(f"is {found}, but audio_format declares {wanted}")
    else:
        facts = _READERS[found](recording)
    seconds = math.ceil(facts.duration_seconds or 0)
    if seconds > MAX_DURATION_SECONDS:
        clock = f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        raise recording.refusal(f"lasts {clock}; the service takes up to 4 hours", hint="send it in parts.")
    return facts


def _identify(head: bytes) -> str | None:
    for signature, name in _SIGNATURES.items():
        if re.match(signature, head, re.DOTALL):
            return name
    return "MP3" if _frames(head, 0) else None


def _unknown(recording: _Recording, stream: bytes) -> UnsupportedAudioError:
    header = int.from_bytes(stream[:4], "big")
    layer, bitrate = header >> 17 & 3, header >> 12 & 15
    # Headerless samples of -1 would pass for MPEG layer I, were it not for the bitrate.
    if header >> 20 == 0xFFF and (layer == 0 or 0 < bitrate < 15):
        return recording.refusal(f"looks like {_MPEG_LAYERS[layer]}, which the service does not take")
    return recording.refusal(
        "is in no format that is recognised",
        hint=f"send WAV, MP3 or OggOpus; if it is headerless 16-bit PCM, set audio_format={_PCM_EXAMPLE}.",
    )


def _measure(recording: _Recording, facts: AudioFacts) -> AudioFacts:
    """Check the facts of PCM, and count its whole samples."""
    rate, channels = facts.sample_rate_hertz or 0, facts.channels or 0
    if rate not in SAMPLE_RATES:
        raise recording.refusal(f"has a sample rate of {rate} Hz; PCM is taken at 8000..48000 Hz")
    if channels not in CHANNEL_COUNTS:
        raise recording.refusal(f"has {channels} channels; PCM is taken with 1 or more")
    samples, rest = divmod(facts.data_bytes or 0, 2 * channels)
    if samples == 0:
        raise recording.refusal("holds no samples")
    if rest and facts.format.container is None:
        raise recording.refusal(f"ends within a sample: {recording.size} bytes, 16 bits, {channels} channels")
    return replace(facts, duration_seconds=samples / rate, data_bytes=samples * 2 * channels)


def _wav(recording: _Recording) -> AudioFacts:
    head, layout, offset = recording.head, b"", 12
    while len(chunk := head[offset : offset + 8]) == 8:
        length = int.from_bytes(chunk[4:], "little")
        offset += 8
        if chunk.startswith(b"data"):
            break
        if chunk.startswith(b"fmt "):
            layout = head[offset : offset + length]
        # Chunks are padded to an even length.
        offset += length + length % 2
    else:
        raise recording.refusal(f"is WAV with no data chunk in its first {len(head)} bytes")
    if len(layout) < 16:
        raise recording.refusal("is WAV with no whole fmt chunk before its samples")
    codec, channels, rate, bits = struct.unpack_from("<HHI6xH", layout)
    if codec == _WAVE_EXTENSIBLE:
        # The sub-format is a GUID that begins with the codec.
        codec = int.from_bytes(layout[24:26], "little")
    if codec != _WAVE_PCM:
        raise recording.refusal(f"is WAV with {_WAVE_CODECS.get(codec, f'codec {codec:#x}')}; PCM is taken")
    if bits != 16:
        raise recording.refusal(f"is WAV with {bits}-bit samples; 16-bit samples are taken")
    present = recording.size - offset
    warnings: tuple[str, ...] = ()
    if present < length < _PLACEHOLDER_SIZE:
        warnings = (f"{recording.name} is cut off: header promises {length} bytes, file has {present}",)
    wav, data_bytes = AudioFormat(Container.WAV), min(length or present, present)
    return _measure(recording, AudioFacts(wav, rate, channels, None, offset, data_bytes, warnings))


def _ogg(recording: _Recording) -> AudioFacts:
    head = recording.head
    opus_head = head.index(b"OpusHead")
    if len(head) < opus_head + 19:
        raise recording.refusal("is OggOpus that ends within its header")
    channels, pre_skip, rate = struct.unpack_from("<BHI", head, opus_head + 9)
    if channels == 0:
        raise recording.refusal("is OggOpus with no channels")
    # Pages tell the time at their end; in -1 no packet ends. Other streams have other serial numbers.
    page = rb"OggS..(?!\xff{8})(.{8})" + re.escape(head[14:18])
    times = re.findall(page, head if len(head) == recording.size else recording.tail, re.DOTALL)
    samples = int.from_bytes(times[-1], "little") - pre_skip if times else 0
    duration = samples / _OPUS_CLOCK if samples > 0 else None
    return AudioFacts(AudioFormat(Container.OGG_OPUS), rate or None, channels, duration)


def _mp3(recording: _Recording) -> AudioFacts:
    head, size = recording.head, recording.size
    mp3 = AudioFormat(Container.MP3)
    start = 0
    if head.startswith(b"ID3"):
        # Seven bits to a byte, so that no length looks like the beginning of a frame.
        a, b, c, d = head[6:10].ljust(4, b"\0")
        start = 10 + (a << 21 | b << 14 | c << 7 | d)
        start += 10 if head.startswith(b"3DI", start) else 0
    if start + 4 > size:
        raise recording.refusal("is MP3 that ends within its ID3 tag")
    if start + 4 > len(head):
        return AudioFacts(mp3, None, None, None)
    frames = _frames(head, start)
    if not frames:
        raise _unknown(recording, head[start:])
    first = frames[0]
    if first.offset + first.length > size:
        raise recording.refusal("is MP3 that ends within its first frame")
    count = _FRAME_COUNT.search(head, first.offset, first.offset + min(first.length, 64))
    duration = None
    if count:
        duration = int.from_bytes(count[1], "big") * first.samples / first.sample_rate or None
    elif len(frames) >= _CBR_FRAMES and len({frame.bits_per_second for frame in frames}) == 1:
        duration = (size - first.offset) * 8 / first.bits_per_second
    return AudioFacts(mp3, first.sample_rate, first.channels, duration)


def _frames(head: bytes, start: int) -> list[_Frame]:
    """Return the MP3 frames that follow one another after zeros; none if no second confirms the first."""
    offset = len(head) - len(head[start:].lstrip(b"\0"))
    frames: list[_Frame] = []
    while frame := _frame(head, offset):
        frames.append(frame)
        offset += frame.length
    return frames if len(frames) > 1 or offset + 4 > len(head) else []


def _frame(head: bytes, offset: int) -> _Frame | None:
    header = int.from_bytes(head[offset : offset + 4], "big")
    sync, version, layer = header >> 21, header >> 19 & 3, header >> 17 & 3
    bitrate, rate, padding, mode = header >> 12 & 15, header >> 10 & 3, header >> 9 & 1, header >> 6 & 3
    # Version 1 and rate 3 are reserved; bitrate 0 leaves the length open, 15 is forbidden.
    if sync != 0x7FF or layer != 1 or version == 1 or rate == 3 or bitrate in (0, 15):
        return None
    mpeg_1 = version == 3
    samples = 1152 if mpeg_1 else 576
    bits = (_MPEG_1_BITRATES if mpeg_1 else _MPEG_2_BITRATES)[bitrate - 1] * 1000
    sample_rate = _MPEG_RATES[rate] >> {3: 0, 2: 1, 0: 2}[version]
    length = samples // 8 * bits // sample_rate + padding
    return _Frame(offset, length, samples, sample_rate, bits, 1 if mode == 3 else 2)


_READERS: dict[str, Callable[[_Recording], AudioFacts]] = {"WAV": _wav, "OGG_OPUS": _ogg, "MP3": _mp3}
