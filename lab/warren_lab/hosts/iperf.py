"""TCP throughput between two hosts of the lab, with the ordinary iperf3."""

from __future__ import annotations

import json
from typing import Final

from warren_lab.errors import ProcessError
from warren_lab.hosts.sockets import accepts_tcp
from warren_lab.run import Run

PORT: Final = 5201


class IperfServer:
    """The receiving side."""

    def __init__(self, run: Run, name: str, *, namespace: str, port: int = PORT) -> None:
        self.port = port
        command = ["iperf3", "--server", "--port", str(port)]
        self.process = run.start(f"iperf3-{name}", command, namespace=namespace)
        self.process.wait_until(
            lambda: accepts_tcp(namespace, "127.0.0.1", port), f"it listens on port {port}"
        )

    def close(self) -> None:
        self.process.stop()


def throughput_gbits(
    run: Run, namespace: str, address: str, *, port: int = PORT, seconds: int = 5, streams: int = 1
) -> float:
    """Gbit/s that arrived at the server."""
    command = [
        *("iperf3", "--client", address, "--port", str(port), "--json"),
        *("--time", str(seconds), "--parallel", str(streams), "--connect-timeout", "5000"),
    ]
    answer = run.call(command, namespace=namespace, timeout_seconds=seconds + 30)
    try:
        document = json.loads(answer.stdout)
        return float(document["end"]["sum_received"]["bits_per_second"]) / 1e9
    except (ValueError, KeyError, TypeError) as error:
        raise ProcessError(f"iperf3 to {address} measured nothing: {answer.stdout[-300:]}") from error
