"""What the wire engine relies on in h2 though h2 doesn't promise it: the windows that it lowers."""

from __future__ import annotations

from h2.config import H2Configuration
from h2.connection import H2Connection
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.memory_peer import REQUEST, connected, requests_of, window_update

_WINDOW = 65_535


@settings(max_examples=50)
@given(st.lists(st.tuples(st.sampled_from([1, 3]), st.integers(0, 16_384)), max_size=30))
def test_accounting_is_what_h2_does_when_it_sends(sends: list[tuple[int, int]]) -> None:
    """DATA by h2's own send_data leaves the windows that `account` leaves."""
    ours_, theirs = connected(), H2Connection(H2Configuration(client_side=False))
    client = H2Connection(H2Configuration(client_side=True))
    client.initiate_connection()
    client.send_headers(1, REQUEST, end_stream=True)
    client.send_headers(3, REQUEST, end_stream=True)
    theirs.receive_data(client.data_to_send())
    ours_.receive(b"".join(requests_of([1, 3])), 0.0)
    for stream_id in (1, 3):
        theirs.send_headers(stream_id, [(":status", "200")])
        ours_.respond(stream_id, [])
    for stream_id, size in sends:
        allowed = min(size, ours_.window(stream_id))
        theirs.send_data(stream_id, bytes(allowed))
        ours_.account(stream_id, allowed)
        for each in (1, 3):
            assert theirs.local_flow_control_window(each) == ours_.window(each)
    for connection in (theirs, ours_._h2):
        connection.receive_data(window_update(0, _WINDOW))

    assert [theirs.local_flow_control_window(each) for each in (1, 3)] == [
        ours_.window(each) for each in (1, 3)
    ]
