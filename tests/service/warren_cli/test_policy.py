"""`warren policy` and `warren ssh` against a real control server, as a person and a CI job use them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from support.control_client import ControlClient, Identity
from warren_control.app import ControlServer

from .conftest import Warren

GOOD = """{
  // who runs what
  "tagOwners": {"tag:web": []},
  "grants": [{"src": ["*"], "dst": ["tag:web"], "ip": ["tcp:443"]}],
}
"""
WRONG = """{
  "tagOwners": {"tag:web": []},
  "grants": [
    {"src": ["*"], "dst": ["tag:wbe"], "ip": ["tcp:443"]},
  ],
}
"""
TESTED = """{
  "tagOwners": {"tag:web": []},
  "grants": [{"src": ["*"], "dst": ["tag:web"], "ip": ["tcp:443"]}],
  "tests": [
    {"src": "members@", "accept": ["tag:web:443"]},
    {"src": "members@", "accept": ["tag:web:22"]},
  ],
}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in (("good", GOOD), ("wrong", WRONG), ("tested", TESTED)):
        (tmp_path / f"{name}.hujson").write_text(text)
    return tmp_path


async def test_a_wrong_file_is_told_by_file_line_and_column(warren: Warren, folder: Path) -> None:
    file = str(folder / "wrong.hujson")
    output = await warren("policy", "check", file, code=1)
    assert output.startswith(f"{file}:4:")
    assert 'did you mean "tag:web"?' in output
    for command in ("set", "diff"):
        assert f"{file}:4:" in await warren("policy", command, file, code=1)
    assert "no policy" in await warren("policy", "show")
    document = json.loads(await warren("policy", "check", file, "-o", "json", code=1))
    assert (document["ok"], document["problems"][0]["line"]) == (False, 4)


async def test_standard_input_is_a_file_too(warren: Warren) -> None:
    assert "<stdin> is valid" in await warren("policy", "check", "-", given=GOOD.encode())
    assert "<stdin>:4:" in await warren("policy", "check", "-", given=WRONG.encode(), code=1)
    assert "<stdin>:1:3: this byte is not UTF-8" in await warren(
        "policy", "check", "-", given=b"{}\xff", code=1
    )


async def test_versions_are_set_shown_listed_and_deleted(warren: Warren, folder: Path) -> None:
    good, tested = str(folder / "good.hujson"), str(folder / "tested.hujson")
    assert "version 1 is in force" in await warren("policy", "set", good, "--comment", "a first one")
    assert await warren("policy", "show") == GOOD
    assert "a first one" in await warren("policy", "history")
    (folder / "good.hujson").write_text(GOOD.replace("443", "80"))
    stale = await warren("policy", "set", good, "--if-version", "7", code=1)
    assert "412" in stale
    assert "version 2" in await warren("policy", "set", good, "--if-version", "1")
    assert await warren("policy", "show", "--version", "1") == GOOD
    assert "tests[0]" in await warren("policy", "set", tested, code=1)
    await warren("policy", "delete", "--yes")
    assert "no policy" in await warren("policy", "show")


async def test_reach_is_asked_and_compared(server: ControlServer, warren: Warren, folder: Path) -> None:
    async with (
        ControlClient(Identity("web"), server.port, None) as web,
        ControlClient(Identity("laptop"), server.port, None) as laptop,
    ):
        for client in (web, laptop):
            await client.register((await warren("keys", "create")).strip())
            await client.poll()
        await warren("tags", "set", "web", "tag:web")
        changes = await warren("policy", "diff", str(folder / "good.hujson"), "--exit-code", code=1)
        assert "laptop" in changes
        await warren("policy", "set", str(folder / "good.hujson"))
        await warren("policy", "diff", str(folder / "good.hujson"), "--exit-code")
        assert "laptop" in await warren("policy", "who-can", "web:443")
        assert "nobody can reach web:22/tcp" in await warren("policy", "who-can", "web:22")
        assert "laptop can reach" in await warren("policy", "who-can", "laptop", "web:443")
        assert "cannot reach" in await warren("policy", "who-can", "laptop", "web:22", code=1)
        why = await warren("policy", "explain", "laptop", "web:443")
        assert "laptop reaches web:443/tcp" in why
        assert "grants[0]" in why
        assert "does not reach" in await warren("policy", "explain", "laptop", "100.64.0.1:22", code=1)
        await warren("policy", "explain", "laptop", "web", code=2)
        results = await warren("policy", "test", str(folder / "tested.hujson"), code=1)
        assert "pass" in results
        assert "FAIL" in results
        failed = await warren("policy", "check", str(folder / "tested.hujson"), code=1)
        assert f"{folder}/tested.hujson:6:" in failed
        assert "has no tests" in await warren("policy", "test")


async def test_an_editor_changes_the_policy_and_loses_nothing(warren: Warren, folder: Path) -> None:
    await warren("policy", "set", str(folder / "good.hujson"))
    editor = folder / "editor"

    def edits(command: str) -> dict[str, str]:
        editor.write_text(f"#!/bin/sh\n{command}\n")
        editor.chmod(0o755)
        return {"EDITOR": str(editor)}

    assert "nothing was changed" in await warren("policy", "edit", environment=edits("exit 0"))
    output = await warren("policy", "edit", environment=edits("sed -i s/443/8443/ $1"))
    assert "version 2 is in force" in output
    assert "8443" in await warren("policy", "show")
    # Refused once, repaired in the same text.
    flawed = (
        "if grep -q wbe $1; then sed -i 's/wbe/web/;s/8443/9443/' $1;"
        " else sed -i 's/dst\\(.*\\)tag:web/dst\\1tag:wbe/' $1; fi"
    )
    output = await warren("policy", "edit", environment=edits(flawed), given=b"y\n")
    assert "did you mean" in output
    assert "version 3 is in force" in output
    # Somebody else is faster: their policy stays, ours is kept.
    other = f"cp {folder}/good.hujson $1.other && sed -i s/9443/7443/ $1 && $WARREN policy set $1.other"
    output = await warren("policy", "edit", environment=edits(other), code=1)
    kept = output.rpartition("your text is in ")[2].strip()
    assert "7443" in await asyncio.to_thread(Path(kept).read_text)
    await asyncio.to_thread(Path(kept).unlink)
    assert await warren("policy", "show") == GOOD


async def test_users_have_addresses_and_roles(warren: Warren) -> None:
    await warren("users", "create", "alice")
    await warren("users", "set-email", "alice", "alice@example.net")
    await warren("users", "set-roles", "alice", "admin", "auditor")
    listed = await warren("users", "list")
    assert "alice@example.net" in listed
    assert "auditor" in listed
    await warren("users", "set-roles", "alice", "king", code=2)
    await warren("users", "set-roles", "alice")
    assert "auditor" not in await warren("users", "list")


async def test_a_held_connection_is_listed_and_decided(server: ControlServer, warren: Warren) -> None:
    rule = {"action": "check", "src": ["autogroup:member"], "dst": ["autogroup:member"], "users": ["web"]}
    await warren("policy", "set", "-", given=json.dumps({"ssh": [rule]}).encode())
    async with (
        ControlClient(Identity("web"), server.port, None) as web,
        ControlClient(Identity("laptop"), server.port, None) as laptop,
    ):
        for client in (web, laptop):
            await client.register((await warren("keys", "create")).strip())
            await client.poll()
        asked = "/machine/ssh/action/2/to/1?local_user=web"
        link = json.loads((await web.call("GET", asked)).body)["message"].split()
        url = next(word for word in link if "/ssh/check/" in word)
        assert "laptop" in await warren("ssh", "checks")
        assert "approved: members from laptop to web as web" in await warren("ssh", "approve", url)
        assert json.loads((await web.call("GET", asked)).body)["accept"] is True
        assert "no connection waits" in await warren("ssh", "deny", url, code=1)
