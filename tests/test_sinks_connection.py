"""The connection that rows go through."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import psycopg
import pytest

from streamer.sinks.database import connect
from tests.postgres import session_url

if TYPE_CHECKING:
    from psycopg import Connection


def _send_buffer_bytes(connection: Connection) -> int:
    with socket.socket(fileno=os.dup(connection.fileno())) as line:
        if line.family != socket.AF_UNIX:
            pytest.skip("the database is reached by TCP, which sizes its buffers itself")
        return line.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)


def test_rows_can_wait_for_the_database_in_the_kernel(pytestconfig: pytest.Config) -> None:
    """More of them than the system has room for by itself."""
    url = session_url(pytestconfig)
    with psycopg.connect(url) as plain, connect(url) as connection:
        assert _send_buffer_bytes(plain) < _send_buffer_bytes(connection)
        assert connection.execute("SELECT 1").fetchone() == (1,)
