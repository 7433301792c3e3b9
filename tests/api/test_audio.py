"""Recordings are recognised from their bytes, and refused by name before anything is sent."""

from __future__ import annotations

import io
import random
import struct
import subprocess
import sys
import wave
from pathlib import Path

import pytest

from airflow_provider_speechsense.api.audio import (
    HEAD_BYTES,
    TAIL_BYTES,
    AudioFacts,
    AudioFormat,
    Container,
    inspect,
    parse_format,
)
from airflow_provider_speechsense.exceptions import ConfigurationError, UnsupportedAudioError

SAMPLES = Path(__file__).parents[2] / "example_dags" / "data"
PHONE_PCM = AudioFormat(None, 8000, 1)
FOUR_HOURS = 4 * 3600


def look(data: bytes, *, size: int | None = None, declared: AudioFormat | None = None) -> AudioFacts:
    size = len(data) if size is None else size
    return inspect(data[:HEAD_BYTES], size=size, tail=data[-TAIL_BYTES:], declared=declared, name="call 7")


def refusal(data: bytes, *, size: int | None = None, declared: AudioFormat | None = None) -> str:
    with pytest.raises(UnsupportedAudioError) as caught:
        look(data, size=size, declared=declared)
    assert str(caught.value).startswith("call 7 ")
    return str(caught.value)


def sample(name: str) -> bytes:
    return (SAMPLES / name).read_bytes()


def chunk(name: bytes, body: bytes, length: int | None = None) -> bytes:
    return name + struct.pack("<I", len(body) if length is None else length) + body + b"\0" * (len(body) % 2)


def fmt(codec: int = 1, channels: int = 1, rate: int = 8000, bits: int = 16, more: bytes = b"") -> bytes:
    frame = channels * bits // 8
    return chunk(b"fmt ", struct.pack("<HHIIHH", codec, channels, rate, rate * frame, frame, bits) + more)


def riff(*chunks: bytes, magic: bytes = b"RIFF") -> bytes:
    return magic + struct.pack("<I", 4 + sum(map(len, chunks))) + b"WAVE" + b"".join(chunks)


SECOND = chunk(b"data", b"\1\0" * 8000)


def extensible(sub_format: int) -> bytes:
    guid = struct.pack("<H", sub_format) + bytes.fromhex("000000001000800000aa00389b71")
    return fmt(codec=0xFFFE, more=struct.pack("<HHI", 22, 16, 4) + guid)


def ogg_page(payload: bytes, *, granule: int = 0, serial: int = 7) -> bytes:
    segments = b"\xff" * (len(payload) // 255) + bytes([len(payload) % 255])
    header = struct.pack("<4sBBqIIIB", b"OggS", 0, 0, granule, serial, 0, 0, len(segments))
    return header + segments + payload


def opus_head(channels: int = 2, pre_skip: int = 312, rate: int = 8000, more: bytes = b"") -> bytes:
    return b"OpusHead" + struct.pack("<BBHIhB", 1, channels, pre_skip, rate, 0, 0) + more


def mp3_frame(*header: int, body: bytes = b"", length: int) -> bytes:
    return (bytes(header) + body).ljust(length, b"\0")


# MPEG-1 at 44.1 kHz, joint stereo, 128 and 64 kbit/s; MPEG-2 at 22.05 kHz, mono, 32 kbit/s.
FRAME_128 = mp3_frame(0xFF, 0xFB, 0x90, 0x40, length=417)
FRAME_64 = mp3_frame(0xFF, 0xFB, 0x50, 0x40, length=208)
FRAME_MPEG_2 = mp3_frame(0xFF, 0xF3, 0x40, 0xC0, length=104)


def id3(length: int, flags: int = 0) -> bytes:
    synchsafe = bytes(length >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\4\0" + bytes([flags]) + synchsafe


# --- the sample recordings


@pytest.mark.parametrize(
    ("name", "container", "channels", "seconds"),
    [
        ("call.wav", Container.WAV, 2, 25.42),
        ("call.mp3", Container.MP3, 2, 25.6),
        ("call.ogg", Container.OGG_OPUS, 2, 25.42),
        ("badge.wav", Container.WAV, 1, 32.95),
    ],
)
def test_every_sample_recording_is_recognised_with_its_facts(
    name: str, container: Container, channels: int, seconds: float
) -> None:
    facts = look(sample(name))
    assert facts.format == AudioFormat(container)
    assert (facts.sample_rate_hertz, facts.channels, facts.warnings) == (8000, channels, ())
    assert facts.duration_seconds == pytest.approx(seconds, abs=0.1)


def test_the_facts_of_a_wav_agree_with_the_standard_library() -> None:
    data = sample("call.wav")
    facts = look(data)
    with wave.open(io.BytesIO(data)) as reader:
        assert facts.sample_rate_hertz == reader.getframerate()
        assert facts.channels == reader.getnchannels()
        assert facts.duration_seconds == reader.getnframes() / reader.getframerate()
        frames = reader.readframes(reader.getnframes())
    assert facts.data_bytes is not None
    assert data[facts.data_offset : facts.data_offset + facts.data_bytes] == frames


def test_the_samples_stay_small_enough_to_live_in_the_repository() -> None:
    assert sum(path.stat().st_size for path in SAMPLES.iterdir()) <= 1_500_000


def test_the_module_needs_neither_airflow_nor_grpc_nor_protobuf() -> None:
    code = "import sys; import airflow_provider_speechsense.api.audio; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"airflow", "grpc", "google.protobuf"} & set(modules.split())


# --- the user's audio_format


def test_no_audio_format_means_to_detect_it() -> None:
    assert parse_format(None) is None


@pytest.mark.parametrize(
    ("value", "container"),
    [
        ("WAV", Container.WAV),
        (" wav ", Container.WAV),
        ("mp3", Container.MP3),
        ("OGG_OPUS", Container.OGG_OPUS),
        ("ogg", Container.OGG_OPUS),
        ("Opus", Container.OGG_OPUS),
        ("OggOpus", Container.OGG_OPUS),
        ("CONTAINER_AUDIO_TYPE_WAV", Container.WAV),
        ("CONTAINER_AUDIO_TYPE_OGG_OPUS", Container.OGG_OPUS),
        ("container_audio_type_mp3", Container.MP3),
        (Container.MP3, Container.MP3),
    ],
)
def test_a_container_may_be_named_as_people_and_as_the_api_name_it(value: str, container: Container) -> None:
    assert parse_format(value) == AudioFormat(container)


@pytest.mark.parametrize(
    "value",
    [
        {"sample_rate_hertz": 16000, "channels": 2},
        {"sample_rate_hertz": "16000", "channels": " 2 "},
        {"sample_rate_hertz": 16000, "audio_channel_count": 2},
        {"sample_rate_hertz": 16000, "channels": 2, "audio_encoding": "LINEAR16_PCM"},
        {"sample_rate_hertz": 16000, "channels": 2, "audio_encoding": "AUDIO_ENCODING_LINEAR16_PCM"},
        AudioFormat(None, 16000, 2),
    ],
)
def test_headerless_pcm_is_declared_by_rate_and_channels(value: dict[str, object] | AudioFormat) -> None:
    assert parse_format(value) == AudioFormat(None, 16000, 2)


@pytest.mark.parametrize("rate", [8000, 48000])
def test_both_ends_of_the_sample_rates_are_allowed(rate: int) -> None:
    assert parse_format({"sample_rate_hertz": rate, "channels": 1}) == AudioFormat(None, rate, 1)


def test_parsing_leaves_the_users_mapping_as_it_is() -> None:
    value = {"sample_rate_hertz": "8000", "audio_channel_count": "1", "audio_encoding": "LINEAR16_PCM"}
    before = dict(value)
    parse_format(value)
    assert value == before


@pytest.mark.parametrize("value", ["PCM", "lpcm", "LINEAR16_PCM"])
def test_pcm_by_name_alone_is_refused_with_how_to_write_it(value: str) -> None:
    with pytest.raises(ConfigurationError, match=r"rate.*channels.*'sample_rate_hertz': 8000, 'channels': 1"):
        parse_format(value)


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ("flac", "'flac'.*WAV, OGG_OPUS, MP3"),
        ("", "''.*WAV"),
        (8000, "8000.*WAV"),
        (["WAV"], "'WAV'.*allowed"),
        ({}, r"keys \[\]; allowed"),
        ({"sample_rate_hertz": 8000}, "channels.*None"),
        ({"channels": 1}, "keys.*channels.*sample_rate_hertz"),
        ({"sample_rate_hertz": 8000, "channels": 1, "bits": 16}, "'bits'.*allowed"),
        ({"sample_rate_hertz": 8000, "channels": 1, 7: 7}, "7.*allowed"),
        ({"sample_rate_hertz": 8000, "channels": 1, "audio_channel_count": 2}, "audio_channel_count"),
        ({"sample_rate_hertz": 7999, "channels": 1}, "sample_rate_hertz is 7999; allowed are 8000..48000"),
        ({"sample_rate_hertz": 48001, "channels": 1}, "sample_rate_hertz is 48001"),
        ({"sample_rate_hertz": "8 kHz", "channels": 1}, "sample_rate_hertz is '8 kHz'"),
        ({"sample_rate_hertz": "9" * 5000, "channels": 1}, "sample_rate_hertz is '9"),
        ({"sample_rate_hertz": 8000.0, "channels": 1}, r"sample_rate_hertz is 8000\.0"),
        ({"sample_rate_hertz": 8000, "channels": 0}, "channels is 0"),
        ({"sample_rate_hertz": 8000, "channels": 65536}, r"channels is 65536; allowed are 1\.\.65535"),
        ({"sample_rate_hertz": 8000, "channels": "-1"}, "channels is '-1'"),
        ({"sample_rate_hertz": 8000, "channels": True}, "channels is True"),
        ({"sample_rate_hertz": 8000, "channels": 1, "audio_encoding": "ALAW"}, "audio_encoding is 'ALAW'"),
        ({"sample_rate_hertz": 8000, "channels": 1, "audio_encoding": []}, r"audio_encoding is \[\]"),
    ],
)
def test_a_wrong_audio_format_is_named_with_what_is_allowed(value: object, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        parse_format(value)  # type: ignore[arg-type]


# --- WAV


def test_an_empty_file_is_refused() -> None:
    assert "is empty" in refusal(b"")
    assert "is empty" in refusal(b"", declared=PHONE_PCM)


@pytest.mark.parametrize("name", ["call.wav", "call.mp3", "call.ogg"])
def test_a_file_that_ends_within_its_header_is_refused(name: str) -> None:
    for length in (1, 3, 4, 8, 12, 20, 30, 40):
        refusal(sample(name)[:length])


def test_a_wav_may_have_other_chunks_of_odd_length_before_its_samples() -> None:
    before = chunk(b"JUNK", b"12345")
    data = riff(before, fmt(rate=16000), chunk(b"LIST", b"abc"), SECOND, chunk(b"id3 ", b"1"))
    facts = look(data)
    assert facts.sample_rate_hertz == 16000
    assert facts.duration_seconds == 0.5
    assert facts.data_offset == data.index(b"data") + 8
    assert facts.data_bytes == 16000
    assert facts.warnings == ()


def test_an_extensible_wav_with_pcm_is_taken_and_with_floats_is_not() -> None:
    assert look(riff(extensible(1), SECOND)).duration_seconds == 1
    assert "WAV with floats" in refusal(riff(extensible(3), SECOND))
    assert "codec 0x101" in refusal(riff(extensible(0x101), SECOND))
    refusal(riff(fmt(codec=0xFFFE), SECOND))


@pytest.mark.parametrize(
    ("codec", "name"),
    [
        (2, "ADPCM"),
        (3, "floats"),
        (6, "A-law"),
        (7, "mu-law"),
        (17, "IMA ADPCM"),
        (0x31, "GSM"),
        (0x55, "MP3"),
        (0x1234, "codec 0x1234"),
    ],
)
def test_a_wav_with_another_codec_is_refused_by_the_name_of_the_codec(codec: int, name: str) -> None:
    assert f"is WAV with {name};" in refusal(riff(fmt(codec=codec), SECOND))


@pytest.mark.parametrize("bits", [8, 24, 32])
def test_a_wav_is_taken_with_16_bits_only(bits: int) -> None:
    assert f"{bits}-bit" in refusal(riff(fmt(bits=bits), SECOND))


@pytest.mark.parametrize("rate", [0, 7999, 48001, 96000])
def test_a_sample_rate_outside_the_limits_is_refused(rate: int) -> None:
    message = refusal(riff(fmt(rate=rate), SECOND))
    assert f"{rate} Hz" in message
    assert "8000..48000" in message
    assert f"{rate} Hz" in refusal(bytes(8000), declared=AudioFormat(None, rate, 1))


@pytest.mark.parametrize("rate", [8000, 48000])
def test_a_sample_rate_at_the_limits_is_taken(rate: int) -> None:
    assert look(riff(fmt(rate=rate), SECOND)).sample_rate_hertz == rate


def test_pcm_without_channels_is_refused() -> None:
    assert "0 channels" in refusal(riff(fmt(channels=0), SECOND))
    assert "0 channels" in refusal(bytes(8000), declared=AudioFormat(None, 8000, 0))


@pytest.mark.parametrize(
    ("magic", "name"), [(b"RF64", "64-bit WAV"), (b"BW64", "64-bit WAV"), (b"RIFX", "big-endian WAV")]
)
def test_relatives_of_wav_are_refused_by_name(magic: bytes, name: str) -> None:
    assert name in refusal(riff(fmt(), SECOND, magic=magic))


def test_riff_that_is_not_wave_is_refused() -> None:
    assert "RIFF but not WAVE" in refusal(b"RIFF\0\0\0\0AVI " + bytes(100))


def test_a_wav_without_a_whole_fmt_chunk_before_its_samples_is_refused() -> None:
    assert "fmt chunk" in refusal(riff(SECOND))
    assert "fmt chunk" in refusal(riff(SECOND, fmt()))
    assert "fmt chunk" in refusal(riff(chunk(b"fmt ", bytes(15)), SECOND))


def test_a_wav_without_a_data_chunk_within_its_head_is_refused() -> None:
    assert "no data chunk" in refusal(riff(fmt()))
    assert "no data chunk" in refusal(riff(fmt(), chunk(b"JUNK", bytes(HEAD_BYTES)), SECOND))


@pytest.mark.parametrize("placeholder", [0, 0x7FFFF000, 0xFFFFFFFF])
def test_the_placeholder_of_a_streaming_recorder_means_all_that_the_file_has(placeholder: int) -> None:
    facts = look(riff(fmt(), chunk(b"data", b"\1\0" * 4000, length=placeholder)))
    assert facts.duration_seconds == 0.5
    assert facts.data_bytes == 8000
    assert facts.warnings == ()


def test_a_wav_that_is_cut_off_is_taken_with_a_warning() -> None:
    data = sample("call.wav")[:100_044]
    facts = look(data)
    assert facts.data_bytes == 100_000
    assert facts.duration_seconds == 3.125
    (warning,) = facts.warnings
    assert warning == "call 7 is cut off: header promises 813532 bytes, file has 100000"


def test_half_a_sample_at_the_end_of_a_wav_is_not_counted() -> None:
    facts = look(riff(fmt(channels=2), chunk(b"data", bytes(4003))))
    assert facts.data_bytes == 4000


@pytest.mark.parametrize("promised", [0, 1000, 0xFFFFFFFF])
def test_a_wav_with_a_header_and_no_samples_is_refused(promised: int) -> None:
    assert "no samples" in refusal(riff(fmt(), chunk(b"data", b"", length=promised)))


# --- MP3


def test_an_mp3_with_a_tag_of_its_encoder_lasts_as_long_as_the_tag_says() -> None:
    for tag in (b"Xing", b"Info"):
        body = bytes(32) + tag + struct.pack(">II", 0x0F, 1000)
        first = mp3_frame(0xFF, 0xFB, 0x90, 0x40, body=body, length=417)
        assert look(first + FRAME_128 * 12).duration_seconds == 1000 * 1152 / 44100


def test_frames_of_mpeg_2_have_half_the_samples() -> None:
    body = bytes(9) + b"Xing" + struct.pack(">II", 1, 1000)
    first = mp3_frame(0xFF, 0xF3, 0x40, 0xC0, body=body, length=104)
    facts = look(first + FRAME_MPEG_2)
    assert facts.duration_seconds == 1000 * 576 / 22050
    assert (facts.sample_rate_hertz, facts.channels) == (22050, 1)


def test_an_mp3_of_fraunhofers_encoder_lasts_as_long_as_its_tag_says() -> None:
    body = bytes(32) + b"VBRI" + struct.pack(">HHHII", 1, 0, 75, 99_999, 500)
    first = mp3_frame(0xFF, 0xFB, 0x90, 0x40, body=body, length=417)
    assert look(first + FRAME_64).duration_seconds == 500 * 1152 / 44100


def test_an_encoders_tag_without_a_number_of_frames_tells_no_duration() -> None:
    for flags, count in ((0x0E, 1000), (0x0F, 0)):
        body = bytes(32) + b"Xing" + struct.pack(">II", flags, count)
        first = mp3_frame(0xFF, 0xFB, 0x90, 0x40, body=body, length=417)
        assert look(first + FRAME_64 * 12).duration_seconds is None


def test_ten_frames_of_one_bitrate_tell_the_duration_from_the_size() -> None:
    assert look(FRAME_128 * 10, size=160_000).duration_seconds == 10
    assert look(FRAME_128 * 9, size=160_000).duration_seconds is None


def test_frames_of_several_bitrates_without_a_tag_tell_no_duration() -> None:
    facts = look(FRAME_128 * 10 + FRAME_64 * 2)
    assert facts.duration_seconds is None
    assert (facts.format.container, facts.sample_rate_hertz, facts.channels) == (Container.MP3, 44100, 2)


def test_the_id3_tag_is_no_part_of_the_duration() -> None:
    tag = id3(300) + bytes(300)
    assert look(tag + FRAME_128 * 10, size=160_310).duration_seconds == 10
    assert look(tag + b"3DI\4\0\x10\0\0\2\x2c" + FRAME_128 * 10, size=160_320).duration_seconds == 10


def test_zeros_before_the_first_frame_are_skipped() -> None:
    assert look(bytes(1000) + FRAME_128 * 10, size=161_000).duration_seconds == 10
    assert look(id3(10) + bytes(510) + FRAME_128 * 10, size=160_520).duration_seconds == 10


def test_other_bytes_before_the_first_frame_are_not_skipped() -> None:
    refusal(b"\1" + FRAME_128 * 10)


def test_an_id3_tag_longer_than_what_was_read_is_believed() -> None:
    data = id3(300_000) + bytes(HEAD_BYTES - 10)
    assert look(data, size=1_000_000) == AudioFacts(AudioFormat(Container.MP3), None, None, None)
    assert look(id3(HEAD_BYTES - 13) + bytes(HEAD_BYTES - 13) + b"\xff\xfb\x90", size=1_000_000)


def test_an_mp3_that_ends_within_its_id3_tag_is_refused() -> None:
    assert "ID3 tag" in refusal(id3(3_000_000) + bytes(HEAD_BYTES), size=3_000_013)
    assert look(id3(3_000_000) + bytes(HEAD_BYTES), size=3_000_014)
    assert "ID3 tag" in refusal(id3(10) + bytes(10) + FRAME_128[:3])
    assert "first frame" in refusal(id3(10) + bytes(10) + FRAME_128[:4])


def test_an_id3_tag_with_something_else_behind_it_is_refused() -> None:
    refusal(id3(10) + bytes(10) + b"fLaC" + bytes(1000))


def test_a_lone_frame_is_taken_unless_it_is_cut_off() -> None:
    assert look(FRAME_128).sample_rate_hertz == 44100
    assert "first frame" in refusal(FRAME_128[:-1])


def test_a_first_frame_that_no_second_confirms_is_refused() -> None:
    assert "MP3 with broken frames" in refusal(FRAME_128 + b"\1" + FRAME_128)
    refusal(FRAME_128 + b"\1\2\3\4")
    assert look(FRAME_128 + b"\1\2\3")


@pytest.mark.parametrize(
    "header", [b"\xff\xeb\x90\x40", b"\xff\xfb\x00\x40", b"\xff\xfb\xf0\x40", b"\xff\xfb\x9c\x40"]
)
def test_reserved_values_in_a_frame_header_are_not_mp3(header: bytes) -> None:
    for length in (417, 1044):
        refusal(header.ljust(length, b"\0") * 3)


@pytest.mark.parametrize(
    ("version", "rate", "samples", "bitrates"),
    [
        (0xFB, 44100, 1152, (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)),
        (0xF3, 22050, 576, (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)),
    ],
)
def test_every_bitrate_of_layer_iii_is_known(
    version: int, rate: int, samples: int, bitrates: tuple[int, ...]
) -> None:
    for index, kilobits in enumerate(bitrates, start=1):
        frame = mp3_frame(0xFF, version, index << 4, 0x40, length=samples * kilobits * 125 // rate)
        assert look(frame * 10, size=kilobits * 1250).duration_seconds == 10


@pytest.mark.parametrize(
    ("header", "length", "rate", "channels"),
    [
        (b"\xff\xfb\x90\x40", 417, 44100, 2),
        (b"\xff\xfa\x94\xc0", 384, 48000, 1),
        (b"\xff\xfb\x9a\x40", 577, 32000, 2),
        (b"\xff\xf3\x40\x80", 104, 22050, 2),
        (b"\xff\xf3\x84\xc0", 192, 24000, 1),
        (b"\xff\xe3\x28\x40", 144, 8000, 2),
        (b"\xff\xe3\x10\xc0", 52, 11025, 1),
    ],
)
def test_layer_iii_of_every_mpeg_version_is_recognised(
    header: bytes, length: int, rate: int, channels: int
) -> None:
    facts = look(header.ljust(length, b"\0") * 3)
    assert (facts.sample_rate_hertz, facts.channels) == (rate, channels)


@pytest.mark.parametrize(
    ("header", "name"),
    [
        (b"\xff\xfd\x90\x40", "MPEG layer II,"),
        (b"\xff\xff\x90\x40", "MPEG layer I,"),
        (b"\xff\xf1\x50\x80", "AAC (ADTS)"),
        (b"\xff\xf9\xf0\x80", "AAC (ADTS)"),
    ],
)
def test_other_mpeg_streams_are_refused_by_name(header: bytes, name: str) -> None:
    assert name in refusal(header.ljust(417, b"\0") * 3)
    assert name in refusal(id3(10) + bytes(10) + header.ljust(417, b"\0") * 3)


def test_undeclared_pcm_that_begins_with_silence_is_not_called_mpeg() -> None:
    for silence in (b"\xff\xff\xff\xff", b"\xff\xff\0\0"):
        assert "audio_format" in refusal(silence * 100)
        assert "MPEG" not in refusal(silence * 100)


# --- OggOpus


def test_the_length_of_a_long_ogg_opus_is_in_its_tail() -> None:
    pages = ogg_page(bytes(40_000), granule=24_000) * 4
    data = ogg_page(opus_head()) + pages + ogg_page(bytes(9), granule=480_312)
    assert look(data).duration_seconds == 10


def test_the_length_of_a_short_ogg_opus_is_in_its_head() -> None:
    data = ogg_page(opus_head(rate=44100)) + ogg_page(bytes(9), granule=48_312)
    facts = inspect(data, size=len(data))
    assert facts == AudioFacts(AudioFormat(Container.OGG_OPUS), 44100, 2, 1)


def test_pages_of_other_streams_and_pages_without_a_time_are_passed_over() -> None:
    ours = ogg_page(opus_head()) + ogg_page(bytes(9), granule=48_312)
    others = ogg_page(bytes(9), granule=-1) + ogg_page(bytes(9), granule=96_312, serial=7 + (1 << 24))
    assert look(ours + others).duration_seconds == 1


def test_a_serial_number_is_not_a_pattern() -> None:
    serial = int.from_bytes(b"(.*[", "little")
    data = ogg_page(opus_head(), serial=serial) + ogg_page(bytes(9), granule=48_312, serial=serial)
    assert look(data).duration_seconds == 1


def test_an_ogg_opus_whose_end_tells_no_time_has_no_duration() -> None:
    data = ogg_page(opus_head())
    assert look(data).duration_seconds is None
    assert look(data + bytes(TAIL_BYTES)).duration_seconds is None
    assert inspect(data, size=1_000_000).duration_seconds is None


def test_an_ogg_opus_does_not_have_to_tell_its_original_rate() -> None:
    assert look(ogg_page(opus_head(rate=0))).sample_rate_hertz is None


def test_an_ogg_opus_of_many_channels_is_recognised() -> None:
    assert look(ogg_page(opus_head(channels=255, more=bytes(257)))).channels == 255


def test_an_ogg_opus_without_channels_is_refused() -> None:
    assert "no channels" in refusal(ogg_page(opus_head(channels=0)))


def test_an_ogg_opus_that_ends_within_its_header_is_refused() -> None:
    assert "within its header" in refusal(ogg_page(opus_head())[:46])


@pytest.mark.parametrize(
    ("packet", "name"),
    [
        (b"\x01vorbis", "Ogg with Vorbis"),
        (b"Speex   ", "Ogg with Speex"),
        (b"\x7fFLAC", "Ogg with FLAC"),
        (b"\x80theora", "Ogg without Opus"),
    ],
)
def test_an_ogg_with_another_codec_is_refused_by_the_name_of_the_codec(packet: bytes, name: str) -> None:
    assert f"is {name}," in refusal(ogg_page(packet + bytes(60)))


# --- what is neither

FOREIGN = [
    (b"fLaC\0\0\0\x22", "FLAC"),
    (b"\0\0\0\x20ftypM4A ", "M4A"),
    (b"#!AMR\n", "AMR"),
    (b"#!AMR-WB\n", "AMR"),
    (b"\x1a\x45\xdf\xa3", "WebM"),
    (b"FORM\0\0\0\0AIFF", "AIFF"),
    (b"FORM\0\0\0\0AIFC", "AIFF"),
    (b".snd\0\0\0\x18", "Sun .au"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "WMA"),
    (b"caff\0\1", "CAF"),
    (b"PK\3\4", "ZIP"),
    (b"\x1f\x8b\x08", "GZIP"),
    (b"<!DOCTYPE html><html><body>Not found", "HTML"),
    ("\ufeff\n<?xml version='1.0'?><Error>нет</Error>".encode(), "XML"),
    (b'{"error": "no such recording"}', "JSON"),
    (b'[{"error": "no such recording"}]', "JSON"),
]


@pytest.mark.parametrize(("beginning", "name"), FOREIGN)
def test_a_known_format_that_is_not_taken_is_refused_by_name(beginning: bytes, name: str) -> None:
    message = refusal(beginning + bytes(200))
    assert name in message
    assert "send WAV with 16-bit PCM" in message


def test_what_nothing_recognises_is_refused_with_the_remedy() -> None:
    message = refusal(bytes(range(200)))
    assert "no format that is recognised" in message
    assert "audio_format={'sample_rate_hertz': 8000, 'channels': 1}" in message


def test_the_message_begins_with_a_plain_name_when_none_is_given() -> None:
    with pytest.raises(UnsupportedAudioError, match=r"^the recording is empty"):
        inspect(b"", size=0)


# --- what was declared


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [("call.wav", "WAV", "MP3"), ("call.mp3", "MP3", "OGG"), ("call.ogg", "OGG", "WAV")],
)
def test_a_declared_container_must_be_the_one_found(name: str, right: str, wrong: str) -> None:
    data = sample(name)
    declared = parse_format(right)
    assert look(data, declared=declared) == look(data)
    message = refusal(data, declared=parse_format(wrong))
    for container in (right, wrong):
        assert container in message.partition("What to do")[0]


def test_the_rate_and_channels_beside_a_declared_container_are_ignored() -> None:
    facts = look(sample("call.wav"), declared=AudioFormat(Container.WAV, 44100, 5))
    assert facts.format == AudioFormat(Container.WAV)
    assert (facts.sample_rate_hertz, facts.channels) == (8000, 2)


def test_a_declared_container_does_not_make_one_of_what_is_none() -> None:
    refusal(bytes(8000), declared=AudioFormat(Container.WAV))


def test_declared_pcm_has_its_duration_from_its_size() -> None:
    declared = AudioFormat(None, 16000, 2)
    facts = look(b"\1\2\3\4" * 4000, size=128_000, declared=declared)
    assert facts == AudioFacts(declared, 16000, 2, 2.0, data_offset=0, data_bytes=128_000)


def test_declared_pcm_of_a_few_samples_is_taken() -> None:
    assert look(b"\1\0", declared=PHONE_PCM).data_bytes == 2


def test_declared_pcm_that_does_not_fill_its_channels_is_refused() -> None:
    assert "8002 bytes" in refusal(bytes(8002), declared=AudioFormat(None, 8000, 2))
    assert "8001 bytes" in refusal(bytes(8001), declared=PHONE_PCM)
    assert look(bytes(8002), declared=PHONE_PCM)


def test_declared_pcm_without_a_rate_or_channels_is_refused() -> None:
    refusal(bytes(8000), declared=AudioFormat(None))


@pytest.mark.parametrize("beginning", [beginning for beginning, _ in FOREIGN])
def test_declared_pcm_must_not_begin_as_a_known_format(beginning: bytes) -> None:
    assert "not the headerless PCM" in refusal(beginning.ljust(800, b"\0"), declared=PHONE_PCM)


@pytest.mark.parametrize("name", ["call.wav", "call.mp3", "call.ogg"])
def test_declared_pcm_must_not_begin_as_a_container(name: str) -> None:
    assert "not the headerless PCM" in refusal(sample(name)[:50_000], declared=PHONE_PCM)


@pytest.mark.parametrize(
    "beginning", [b"\0\0", b"\xff\xff", b"\xff\xfb\x90\x40", b"\xff\xf1\x50\x80", b"<\0"]
)
def test_ordinary_samples_do_not_pass_for_a_known_format(beginning: bytes) -> None:
    assert look(beginning.ljust(4000, b"\2"), declared=PHONE_PCM).format == PHONE_PCM


# --- four hours


def test_four_hours_are_taken_and_a_sample_more_is_refused_with_the_duration() -> None:
    size = FOUR_HOURS * 16_000
    assert look(bytes(100), size=size, declared=PHONE_PCM).duration_seconds == FOUR_HOURS
    assert "lasts 4:00:01" in refusal(bytes(100), size=size + 2, declared=PHONE_PCM)
    assert "lasts 29:59:05" in refusal(bytes(100), size=(30 * 3600 - 55) * 16_000, declared=PHONE_PCM)


def test_every_container_is_held_to_four_hours() -> None:
    wav = riff(fmt(), chunk(b"data", bytes(100), length=0))
    ogg = ogg_page(opus_head()) + ogg_page(bytes(9), granule=48_000 * (FOUR_HOURS + 62))
    assert "lasts 4:00:01" in refusal(wav, size=FOUR_HOURS * 16_000 + 46)
    assert "lasts 4:00:01" in refusal(FRAME_128 * 10, size=FOUR_HOURS * 16_000 + 1)
    assert "lasts 4:01:02" in refusal(ogg)


# --- anything at all


def test_whatever_the_bytes_only_unsupported_audio_error_escapes() -> None:
    rng = random.Random(20260312)
    seeds = [sample("call.wav")[:3000], sample("call.mp3")[:3000], sample("call.ogg")[:3000]]
    seeds += [riff(extensible(1), SECOND)[:300], id3(300) + bytes(300) + FRAME_128 * 3, bytes(20)]
    formats = [None, PHONE_PCM, AudioFormat(None), AudioFormat(None, 8000, 2), *map(AudioFormat, Container)]
    outcomes = set()
    for _ in range(5000):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.randrange(4)):
            data[rng.randrange(min(len(data), 64))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        head = bytes(data[: rng.choice((rng.randrange(80), len(data)))])
        size = rng.choice((len(head), rng.randrange(200), 10 ** rng.randrange(13)))
        tail = rng.choice((b"", head, rng.randbytes(40)))
        try:
            facts = inspect(head, size=size, tail=tail, declared=rng.choice(formats))
        except UnsupportedAudioError as error:
            outcomes.add(str(error)[:40])
        else:
            outcomes.add(str(facts.format.container))
            assert facts.data_offset + (facts.data_bytes or 0) <= size
            assert 0 < (facts.duration_seconds or 1) <= FOUR_HOURS
    assert len(outcomes) > 20, "the loop should reach most refusals and every container"
