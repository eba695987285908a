"""The `warren` command against an HTTPS server that answers as the admin API does."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from warren_cli.__main__ import main

NODE = {
    "id": 7,
    "name": "web",
    "addresses": ["100.64.0.7"],
    "online": True,
    "tags": [],
    "advertised_routes": ["10.9.0.0/16"],
    "approved_routes": [],
}


@dataclass
class Server:
    """What the API was asked, and what it answers."""

    url: str = ""
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    answers: dict[tuple[str, str], tuple[int, Any]] = field(default_factory=dict)

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else None
        self.asked.append((request.method, request.path, body))
        if request.headers.get("Authorization") != "Bearer open-sesame":
            return web.json_response(
                {"title": "Unauthorized"}, status=401, content_type="application/problem+json"
            )
        status, document = self.answers.get(
            (request.method, request.path), (404, {"detail": "no such thing"})
        )
        kind = "application/json" if status < 400 else "application/problem+json"
        return web.json_response(document, status=status, content_type=kind)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "control")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    crt, pem = tmp_path / "tls.crt", tmp_path / "tls.key"
    crt.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return crt, pem


@pytest.fixture
def server(certificate: tuple[Path, Path]) -> Iterator[Server]:
    """Serves from a thread of its own, because the command runs an event loop itself."""
    server = Server()
    loop = asyncio.new_event_loop()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)

    async def start() -> web.AppRunner:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", server.handle)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        server.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    runner = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield server
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


Run = Callable[..., Result]


@pytest.fixture
def run(server: Server, certificate: tuple[Path, Path], tmp_path: Path) -> Run:
    token = tmp_path / "token"
    token.write_text("open-sesame\n")

    def run(*arguments: str, token_file: Path = token) -> Result:
        options = ["--server", server.url, "--token-file", str(token_file), "--ca-file", str(certificate[0])]
        return CliRunner().invoke(main, [*options, *arguments])

    return run


def test_nodes_are_listed_as_a_table(server: Server, run: Run) -> None:
    server.answers["GET", "/api/v1/nodes"] = (200, {"revision": 3, "nodes": [NODE]})
    result = run("nodes", "list")
    assert result.exit_code == 0, result.output
    assert "NAME" in result.output
    assert "100.64.0.7" in result.output
    assert "10.9.0.0/16 (offered)" in result.output


def test_json_output_is_the_answer_itself(server: Server, run: Run) -> None:
    answer = {"revision": 3, "nodes": [NODE]}
    server.answers["GET", "/api/v1/nodes"] = (200, answer)
    assert json.loads(run("nodes", "list", "--output", "json").output) == answer


def test_a_node_is_found_by_its_name(server: Server, run: Run) -> None:
    server.answers["GET", "/api/v1/nodes"] = (200, {"revision": 3, "nodes": [NODE]})
    server.answers["PATCH", "/api/v1/nodes/7"] = (200, NODE)
    assert run("nodes", "approve-routes", "web", "10.1.0.0/16").exit_code == 0
    assert server.asked[-1] == ("PATCH", "/api/v1/nodes/7", {"approved_routes": ["10.1.0.0/16"]})


def test_an_unknown_node_is_named_in_the_error(server: Server, run: Run) -> None:
    server.answers["GET", "/api/v1/nodes"] = (200, {"revision": 3, "nodes": []})
    result = run("nodes", "delete", "nas")
    assert result.exit_code == 1
    assert "no machine is named 'nas'" in result.output


def test_a_new_key_is_printed_alone_so_that_scripts_can_take_it(server: Server, run: Run) -> None:
    server.answers["POST", "/api/v1/keys"] = (201, {"id": "a", "key": "warren-auth-a-b"})
    result = run("keys", "create", "--reusable", "--expires", "2h", "--tag", "tag:cluster")
    assert result.output == "warren-auth-a-b\n"
    body = server.asked[-1][2]
    assert (body["reusable"], body["expires_in_seconds"], body["tags"]) == (True, 7200, ["tag:cluster"])


def test_a_wrong_duration_is_refused_before_anything_is_sent(server: Server, run: Run) -> None:
    assert run("keys", "create", "--expires", "soon").exit_code == 2
    assert server.asked == []


def test_the_servers_own_words_reach_the_person(server: Server, run: Run) -> None:
    server.answers["DELETE", "/api/v1/keys/a"] = (
        404,
        {"title": "Not Found", "detail": "no key has the id a"},
    )
    result = run("keys", "delete", "a")
    assert result.exit_code == 1
    assert "no key has the id a" in result.output


def test_a_refused_token_is_said_without_showing_it(run: Run, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("not-the-token")
    result = run("status", token_file=wrong)
    assert result.exit_code == 1
    assert "refused the token" in result.output
    assert "not-the-token" not in result.output


def test_without_a_server_the_flags_are_explained() -> None:
    result = CliRunner().invoke(main, ["status"])
    assert result.exit_code == 1
    assert "--server" in result.output
    assert "--mesh" in result.output


def test_a_server_that_is_not_there_is_an_error_of_one_line(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("x")
    result = CliRunner().invoke(
        main, ["--server", "https://127.0.0.1:1", "--token-file", str(token), "status"]
    )
    assert result.exit_code == 1
    assert result.output.startswith("Error: cannot reach https://127.0.0.1:1")
