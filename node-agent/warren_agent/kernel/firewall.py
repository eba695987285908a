"""nftables through libnftables: one transaction a change, listed back as JSON.

Touches the agent's own table and no other; must not know what the rules are for.
"""

from __future__ import annotations

import ctypes
import json
import socket
from collections.abc import Mapping
from typing import Any, Final

from warren_agent.errors import KernelError, SetupError
from warren_agent.host import Ruleset
from warren_agent.ruleset import FAMILY, TABLE

LIBRARY: Final = "libnftables.so.1"
_OUTPUT_JSON: Final = 1 << 4
_TABLE_KEY: Final = {"family": FAMILY, "name": TABLE}
_CHAIN_KEY: Final = {"family": FAMILY, "table": TABLE}
_MISSING: Final = "No such file or directory"


def _load() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise SetupError(f"{LIBRARY} is missing; install nftables (on Debian: libnftables1)") from error
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    library.nft_ctx_free.restype = None
    library.nft_ctx_free.argtypes = [ctypes.c_void_p]
    library.nft_ctx_output_set_flags.restype = None
    library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    for name in ("output", "error"):
        getattr(library, f"nft_ctx_buffer_{name}").argtypes = [ctypes.c_void_p]
        getter = getattr(library, f"nft_ctx_get_{name}_buffer")
        getter.restype = ctypes.c_char_p
        getter.argtypes = [ctypes.c_void_p]
    return library


class Nftables:
    """Runs libnftables commands in the network namespace of the calling thread."""

    def __init__(self) -> None:
        self._library = _load()

    def run(self, command: str) -> str:
        # A context for each command: it holds a netlink socket and a cache that other programs outdate.
        context = self._library.nft_ctx_new(0)
        if not context:
            raise KernelError("nftables cannot be opened")
        try:
            self._library.nft_ctx_output_set_flags(context, _OUTPUT_JSON)
            self._library.nft_ctx_buffer_output(context)
            self._library.nft_ctx_buffer_error(context)
            failed = self._library.nft_run_cmd_from_buffer(context, command.encode())
            output = self._library.nft_ctx_get_output_buffer(context) or b""
            problem = (
                (self._library.nft_ctx_get_error_buffer(context) or b"").decode(errors="replace").strip()
            )
        finally:
            self._library.nft_ctx_free(context)
        if failed:
            raise KernelError(
                f"nftables: {problem.splitlines()[0] if problem else 'refused without a reason'}"
            )
        return str(output.decode())


def _plain(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """Without handles, and with protocols by number, which are listed by name where the host knows names."""
    found = {kind: {k: v for k, v in body.items() if k != "handle"} for kind, body in entry.items()}
    for expression in found.get("rule", {}).get("expr", ()):
        match expression:
            case {"match": {"left": {"meta": {"key": "l4proto"}}, "right": str(name)}}:
                expression["match"]["right"] = _protocol_number(name)
    return found


def _protocol_number(name: str) -> int | str:
    try:
        return int(name) if name.isdigit() else socket.getprotobyname(name)
    except OSError:
        return name


def _rules(ruleset: Ruleset) -> dict[str, list[Mapping[str, Any]]]:
    """The rules of each chain that has any, in order."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for entry in ruleset.objects:
        if "rule" in entry:
            found.setdefault(entry["rule"]["chain"], []).append(entry)
    return found


def _frame(ruleset: Ruleset) -> list[Mapping[str, Any]]:
    return [entry for entry in ruleset.objects if "rule" not in entry]


def _changes(found: Ruleset | None, wanted: Ruleset) -> list[Mapping[str, Any]]:
    """Commands of one transaction that turn one table into the other."""
    if found is None or _frame(found) != _frame(wanted):
        whole = [{"add": {"table": _TABLE_KEY}}, {"delete": {"table": _TABLE_KEY}}]
        return [*whole, *({"add": entry} for entry in wanted.objects)]
    old, new = _rules(found), _rules(wanted)
    commands: list[Mapping[str, Any]] = []
    for chain in sorted(old.keys() | new.keys()):
        if old.get(chain) != new.get(chain):
            commands.append({"flush": {"chain": {**_CHAIN_KEY, "name": chain}}})
            commands += [{"add": entry} for entry in new.get(chain, [])]
    return commands


class Firewall:
    """The agent's table. What was written last and how it was listed then are remembered, so that a library
    that lists rules in other words than ours does not make the same table look different for ever.
    """

    def __init__(self) -> None:
        self._nftables = Nftables()
        self._written: tuple[Ruleset, Ruleset] | None = None

    def check(self) -> None:
        """Raise `SetupError` where the kernel has no nftables."""
        try:
            self._nftables.run("list tables")
        except KernelError as error:
            raise SetupError(f"{error}; the kernel needs nf_tables and the agent needs NET_ADMIN") from error

    def observe(self) -> Ruleset | None:
        found = self._list()
        if self._written is not None and found == self._written[1]:
            return self._written[0]
        return found

    def replace(self, ruleset: Ruleset) -> None:
        """Whole chains whose rules differ from what is there, or the whole table where its chains differ."""
        commands = _changes(self._list(), ruleset)
        if commands:
            self._nftables.run(json.dumps({"nftables": commands}))
        listed = self._list()
        self._written = None if listed is None else (ruleset, listed)

    def remove(self) -> None:
        if self._list() is not None:
            self._nftables.run(json.dumps({"nftables": [{"delete": {"table": _TABLE_KEY}}]}))
        self._written = None

    def _list(self) -> Ruleset | None:
        try:
            text = self._nftables.run(f"list table {FAMILY} {TABLE}")
        except KernelError as error:
            if _MISSING in str(error):
                return None
            raise
        entries = json.loads(text)["nftables"]
        return Ruleset(tuple(_plain(entry) for entry in entries if "metainfo" not in entry))
