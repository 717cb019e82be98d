"""How the clients reach a server: channel options, certificates, and what errors mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status as RpcStatus

from streamer.client.advice import TlsCredentials
from streamer.client.failures import Failure
from streamer.errors import Status, StreamerError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# A chunk of 10,000 vectors of 1,600 floats; the server's own limit is what counts.
DEFAULT_MAX_MESSAGE_BYTES = 64 << 20
# A channel that lost its server looks again at once and then about this often; what waits
# longer is the retry policy's decision. The C-core's own cap is two minutes.
_RECONNECT_MS = 1000
# The C-core calls it the least backoff and takes it for the time that connecting may take.
_CONNECT_MS = 20_000
_READ_AHEAD_BYTES = 4 << 20
_DETAILS_KEY = "grpc-status-details-bin"


class ChannelError(StreamerError):
    """A certificate file can't be used."""


class LoneCertificateError(ChannelError):
    """A client's certificate was given without its key, or the key without it."""

    exit_code = 2


def open_channel(
    target: str, credentials: grpc.ChannelCredentials | None, max_message_bytes: int
) -> grpc.Channel:
    """Return a blocking channel to `target`, HOST:PORT; clear text without `credentials`."""
    options = channel_options(max_message_bytes)
    if credentials is None:
        return grpc.insecure_channel(target, options)
    return grpc.secure_channel(target, credentials, options)


def channel_options(max_message_bytes: int) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", _CONNECT_MS),
        ("grpc.max_reconnect_backoff_ms", _RECONNECT_MS),
        # By itself the C-core reads up to 16 MiB ahead of a slow consumer, in three times the
        # memory. 4 MiB is as fast here (380,000 rows/s, 64 KiB: 250,000).
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", _READ_AHEAD_BYTES),
        ("grpc.enable_retries", 0),  # it would repeat rows that were delivered
    ]


def tls_credentials(
    ca: Path | None = None, certificate: Path | None = None, key: Path | None = None
) -> grpc.ChannelCredentials:
    """Return credentials from PEM files; ChannelError.

    `ca` signed the server's certificate; None means one of the system's CAs. `certificate`
    and `key` are the client's own, for servers that ask for them.
    """
    if (certificate is None) != (key is None):
        message = "the client's certificate and its key belong together"
        raise LoneCertificateError(message)
    try:
        return TlsCredentials(ca, certificate, key)
    except OSError as error:
        message = f"{error.filename}: {error.strerror or error}"
        raise ChannelError(message) from None


def failure_of(error: grpc.RpcError) -> Failure:
    """Return how a call ended, with the RetryInfo that may be among its trailers."""
    call: Any = error  # what grpcio raises is a call, and its types don't say so
    code = call.code()
    return Failure(
        Status(code.value[0]), call.details() or "", _retry_seconds(call.trailing_metadata() or ())
    )


def _retry_seconds(trailers: Iterable[tuple[str, Any]]) -> float | None:
    for key, value in trailers:
        if key == _DETAILS_KEY:
            return _retry_info(value)
    return None


def _retry_info(details: bytes) -> float | None:
    info = RetryInfo()
    try:
        for detail in RpcStatus.FromString(details).details:
            if detail.Unpack(info):
                return max(0.0, float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9))
    except (DecodeError, ValueError):  # not a google.rpc.Status: somebody else's trailer
        return None
    return None
