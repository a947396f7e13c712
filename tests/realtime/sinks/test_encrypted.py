"""Network outputs over TLS, and what is printed of secrets in addresses."""

from __future__ import annotations

import psutil
import pytest

from rtseg.realtime.errors import UsageError
from rtseg.realtime.sinks.clashes import refuse_clashes
from rtseg.realtime.sinks.network import parse_network
from rtseg.realtime.sinks.resolve import parse_sink
from rtseg.realtime.sources.options import SourceOptions
from tests.realtime.sinks.sounding import (
    Playing,
    free_port,
    make,
    needs_ffmpeg,
    placed,
    receiver,
    to,
)
from tests.servers.tls import make_certificate, needs_openssl, tls_in_front_of


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return make(tmp_path_factory.mktemp("clip") / "drive.mp4", length_s=10)


@needs_ffmpeg
@needs_openssl
@pytest.mark.parametrize("scheme", ["rtsps", "rtmps"])
def test_pictures_and_sound_arrive_over_tls(scheme, clip, tmp_path, monkeypatch, caplog):
    certificate, key = make_certificate(tmp_path, "IP:127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    out, port = tmp_path / "got.mkv", free_port()
    plain = f"{scheme.removesuffix('s')}://127.0.0.1:{port}/live/k3y"
    listen = ("-rtsp_flags", "listen") if scheme == "rtsps" else ("-listen", 1)
    receiving = receiver(*listen, "-i", plain, "-c", "copy", out)
    with receiving, tls_in_front_of(port, certificate, key) as secure:
        sink = to(f"{scheme}://127.0.0.1:{secure}/live/k3y")
        with Playing(sink, clip, SourceOptions(loop=0)) as playing:
            playing.wait_for(lambda: sink.sent >= 40)
            commands = [child.cmdline() for child in psutil.Process().children()]
    sounds, pictures = placed(out)
    assert len(pictures) > 30
    assert len(sounds) > 30
    assert not any(str(secure) in " ".join(command) for command in commands)
    if scheme == "rtmps":
        assert "k3y" not in caplog.text + str(sink.summary())
        assert "the server's certificate is not checked" in caplog.text


@needs_openssl
@pytest.mark.parametrize("wrong", ["not trusted", "another host"])
def test_rtsps_sends_nothing_to_a_server_that_it_does_not_know(
    wrong, clip, tmp_path, monkeypatch, caplog
):
    name = "IP:127.0.0.1" if wrong == "not trusted" else "IP:192.0.2.1"
    certificate, key = make_certificate(tmp_path, name)
    if wrong == "another host":
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with tls_in_front_of(free_port(), certificate, key) as secure:
        sink = to(f"rtsps://user:s3cret@127.0.0.1:{secure}/live")
        with Playing(sink, clip, SourceOptions(loop=0)) as playing:
            playing.wait_for(lambda: "certificate that is not trusted" in caplog.text)
    assert sink.sent == 0
    assert "s3cret" not in caplog.text


# -- addresses ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "scheme", "shown"),
    [
        ("rtsps://u:p@host:322/live", "rtsps", "rtsps://***@host:322/live"),
        ("RTMPS://host/app/k3y", "rtmps", "RTMPS://host/app/***"),
        ("rtmp://host/app/in/k3y?x=1", "rtmp", "rtmp://host/app/***"),
        ("rtmp://u:p@host/app/k3@y", "rtmp", "rtmp://***@host/app/***"),
        ("rtmp://host/app", "rtmp", "rtmp://host/app"),
    ],
)
def test_secrets_are_not_shown(text, scheme, shown):
    address = parse_network(text)
    assert (address.scheme, address.shown) == (scheme, shown)
    assert address.url.startswith(f"{scheme}://")


def test_certificates_are_checked_where_ffmpeg_can_be_asked():
    assert parse_network("rtsps://host/live").options["tls_verify"] == "1"
    assert "tls_verify" not in parse_network("rtsp://host/live").options


def test_srt_is_refused_with_the_reason():
    with pytest.raises(UsageError) as caught:
        parse_sink("srt://host:9000?mode=caller&passphrase=s3cret")
    assert str(caught.value).startswith("no srt outputs: the FFmpeg in PyAV's wheels is built")
    assert "Allowed: FILE.mp4" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_clash_does_not_show_the_stream_key():
    with pytest.raises(UsageError, match="same place: rtmp://host/app/") as caught:
        refuse_clashes(["rtmp://host/app/k3y", "rtmp://host/app/k3y"])
    assert "k3y" not in str(caught.value)
