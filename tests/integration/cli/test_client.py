"""Where the command line looks for services that run elsewhere."""

from __future__ import annotations

import socket
import threading

import pytest

from servers import free_port
from xinstruct.cli.client import connect_to
from xinstruct.settings import XinstructSettings
from xinstruct.spine.errors import Unavailable
from xinstruct.spine.rpc import RETRY_RESTS_S


def test_a_service_elsewhere_is_waited_for_while_its_pod_is_replaced() -> None:
    port = free_port()
    started: list[socket.socket] = []
    pod = threading.Timer(RETRY_RESTS_S[0] / 4, lambda: started.append(socket.create_server(("127.0.0.2", port))))
    pod.start()
    with connect_to(XinstructSettings(addresses={"curation": f"127.0.0.2:{port}"})) as client:
        assert client.curation is not None
    pod.join()
    started[0].close()


def test_a_service_of_this_machine_is_there_or_not() -> None:
    settings = XinstructSettings(addresses={"curation": f"127.0.0.1:{free_port()}"})
    with connect_to(settings) as client, pytest.raises(Unavailable, match="nobody serves curation"):
        assert client.curation
