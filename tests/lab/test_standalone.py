"""`docs/standalone.md` as a newcomer reads it: the very commands of its first section, on fresh hosts."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from support.doc_tables import DOCS, ROOT, blocks
from support.lab import eventually, require_namespaces
from support.requirements import require_tun
from warren_lab import tools
from warren_lab.hosts.sockets import accepts_tcp
from warren_lab.net import Network, PublicHost, Router, Topology
from warren_lab.process import Process, entering
from warren_lab.run import Run

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

SERVER = IPv4Address("203.0.113.10")
PLAN = Topology(
    routers=(
        Router("home-router", IPv4Address("203.0.113.22"), IPv4Network("192.168.1.0/24"), ("laptop",)),
        Router("cafe-router", IPv4Address("203.0.113.23"), IPv4Network("192.168.2.0/24"), ("phone",)),
    ),
    public_hosts=(PublicHost("server", SERVER),),
)
SECTION = "## Six commands to the first ping"
# What a host of its own has to itself; the package's sources and its cache stay those of the machine.
OWN_FOLDERS = """
mkdir -p {own}/etc {own}/work && mount -t tmpfs tmpfs /opt && mount -t tmpfs tmpfs /var/lib
mount -t overlay overlay -o lowerdir=/etc,upperdir={own}/etc,workdir={own}/work /etc && mkdir -p /etc/warren
"""


def commands(block: str) -> list[str]:
    """What is typed in a console block."""
    lines = block.replace("\\\n", " ").splitlines()
    return [line.removeprefix("$ ").strip() for line in lines if line.startswith("$ ")]


class Newcomer:
    """Hosts without anything of ours on them."""

    def __init__(self, run: Run, network: Network) -> None:
        self.run, self.network = run, network
        own = run.path / "server"
        own.mkdir()
        # Holds the mount namespace open for as long as the test takes.
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", own], check=True)
        script = f"set -e\n{OWN_FOLDERS.format(own=own)}touch {own}/ready\nexec sleep infinity"
        self._host: Process = run.start("server", ["unshare", "--mount", "bash", "-c", script])
        self._host.wait_until((own / "ready").exists, "the host is furnished")
        self.own = own

    def at_server(self, command: str, *, online: bool = False) -> str:
        """A command on the server; `online` gives it the machine's own network, where packages come from."""
        inside = [
            "nsenter",
            f"--mount=/proc/{self._host.pid}/ns/mnt",
            "--wdns=" + str(ROOT),
            "bash",
            "-c",
            command,
        ]
        line = inside if online else entering(inside, self.network.namespace("server"))
        done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=400)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def serve(self, command: str) -> None:
        """A command that ends in `&`."""
        line = ["nsenter", f"--mount=/proc/{self._host.pid}/ns/mnt", *shlex.split(command.rstrip(" &"))]
        namespace = self.network.namespace("server")
        process = self.run.start("serve", line, namespace=namespace)
        process.wait_until(lambda: accepts_tcp(namespace, "127.0.0.1", 443), "it listens")

    def machine(self, name: str) -> Path:
        """The socket of a stock client on a machine of that name."""
        folder = self.run.path / name
        folder.mkdir()
        programs = tools.ensure(("newest",))
        daemon = [str(programs.path("tailscaled")), f"--statedir={folder}", f"--socket={folder}/sock"]
        process = self.run.start(
            f"tailscaled-{name}",
            ["unshare", "--uts", "sh", "-c", f'hostname {name} && exec "$@"', "sh", *daemon],
            namespace=self.network.namespace(name),
            environment={
                "SSL_CERT_FILE": str(self.own / "etc/warren/tls.crt"),
                "TS_NO_LOGS_NO_SUPPORT": "true",
            },
        )
        process.wait_until((folder / "sock").exists, "its socket is there")
        return folder / "sock"

    def at_machine(self, name: str, sock: Path, command: str) -> subprocess.CompletedProcess[str]:
        program, *arguments = shlex.split(command)
        assert program == "tailscale"
        if arguments[0] == "up":
            # Its names would go into the resolver of the machine that runs the test.
            arguments.append("--accept-dns=false")
        client = str(tools.ensure(("newest",)).path("tailscale"))
        namespace = self.network.namespace(name)
        return self.run.call([client, f"--socket={sock}", *arguments], namespace=namespace)


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Newcomer]:
    require_namespaces()
    require_tun()
    with ExitStack() as stack:
        run = stack.enter_context(Run(tmp_path / "lab"))
        network = stack.enter_context(Network(PLAN, run.prefix))
        yield Newcomer(run, network)


def test_the_first_ping_takes_six_commands(newcomer: Newcomer) -> None:
    document = DOCS / "standalone.md"
    first = document.read_text().split(SECTION)[1]
    settings = blocks(document, "yaml")[0]
    on_server, on_machines = (commands(block) for block in blocks(document, "console")[:2])
    assert first.index(on_server[0][:30]) < first.index("\n## ")
    assert len(on_server) + len(on_machines) <= 6
    (newcomer.own / "etc/warren/control.yaml").write_text(settings)
    install, certificate, serve, create = on_server
    newcomer.at_server(install, online=True)
    newcomer.at_server(certificate)
    newcomer.serve(serve)
    key = newcomer.at_server(create).strip()
    up, ping = on_machines
    (shown,) = re.findall(r"--auth-key=(\S+)", up)
    sockets = {name: newcomer.machine(name) for name in ("laptop", "phone")}
    for name, sock in sockets.items():
        done = newcomer.at_machine(name, sock, up.replace(shown, key))
        assert done.returncode == 0, done.stderr
    assert "ping phone" in ping

    def answered() -> bool:
        return "pong from phone" in newcomer.at_machine("laptop", sockets["laptop"], ping).stdout

    assert eventually(answered, within=60)
