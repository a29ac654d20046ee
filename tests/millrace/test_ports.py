"""Ports: a taken one is named with its holder."""

import os
import socket

import pytest

from contracts.errors import StackError
from millrace.ports import check_port, free_port, is_open


def test_a_free_port_passes() -> None:
    port = free_port()
    check_port("127.0.0.1", port, purpose="tests", remedy="none")
    assert not is_open("127.0.0.1", port)


def test_a_taken_port_is_refused_naming_its_holder() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert is_open("127.0.0.1", port)
        sentence = rf"^Port {port}, wanted for HTTP, is in use by .* \(process {os.getpid()}\); use --port\.$"
        with pytest.raises(StackError, match=sentence):
            check_port("127.0.0.1", port, purpose="HTTP", remedy="use --port")


def test_an_address_that_is_not_ours_is_refused() -> None:
    with pytest.raises(StackError, match="can't be used"):
        check_port("192.0.2.1", free_port(), purpose="HTTP", remedy="use --port")
