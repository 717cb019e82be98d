"""The fastest that a loopback connection can be: sendall of bytes that are all there.

    python -m benchmarks.raw_server DATASET.arrow [CERTIFICATE KEY]

The bytes are those of the DATA frames of GetEmbeddings. Each connection is told how many they
are (`RAW_SIZE`), then gets them once for every byte it sends. With a certificate, over TLS.
"""

from __future__ import annotations

import socket
import ssl
import sys
import threading
from pathlib import Path

from benchmarks.draining_client import RAW_SIZE
from streamer.dataset import Dataset


def _joined_bytes(data: Path) -> bytes:
    opened = Dataset(data).current()
    return b"".join(
        memoryview(opened.rows.encode(part).data) for part in opened.store.rows_after(None).slices
    )


def _serve(peer: socket.socket, data: bytes) -> None:
    with peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer.sendall(RAW_SIZE.pack(len(data)))
        while peer.recv(1):
            peer.sendall(data)


def main() -> None:
    data_path, *certificate = sys.argv[1:]
    data = _joined_bytes(Path(data_path))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(f"listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
        context = None
        if certificate:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(*certificate)
            context.set_alpn_protocols(["h2"])
        while True:
            peer, _ = listener.accept()
            if context is not None:
                peer = context.wrap_socket(peer, server_side=True)
            threading.Thread(target=_serve, args=(peer, data), daemon=True).start()


if __name__ == "__main__":
    main()
