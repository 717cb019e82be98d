"""What ends a connection because of its peer, with the code that the peer is told."""

from __future__ import annotations

from h2.errors import ErrorCodes


class PeerFaultError(Exception):
    """The peer breaks the protocol, or asks too much; the text is for it and for the log."""

    code = ErrorCodes.PROTOCOL_ERROR


class CalmDownError(PeerFaultError):
    """The peer makes work and lets none be done."""

    code = ErrorCodes.ENHANCE_YOUR_CALM


class FrameSizeError(PeerFaultError):
    """A frame is longer than the settings permit, or than its kind may be."""

    code = ErrorCodes.FRAME_SIZE_ERROR


class NotHttp2Error(PeerFaultError):
    """The peer speaks something else; `answer` is for it, empty if it is nothing known."""

    def __init__(self, text: str, answer: bytes) -> None:
        super().__init__(text)
        self.answer = answer
