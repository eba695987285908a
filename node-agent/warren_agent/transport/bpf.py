"""The socket filter that lets through only disco and STUN answers for WireGuard's port.

A raw UDP socket gets a copy of every UDP packet of the host; without a filter in the kernel each WireGuard
data packet would wake this program.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from dataclasses import dataclass
from typing import Final

from warren_agent.transport.packets import DISCO_TAIL_BYTES, STUN_TAIL_BYTES

SO_ATTACH_FILTER: Final = 26

DISCO_MAGIC: Final = 0x5453F09F
STUN_RESPONSE: Final = 0x0101
STUN_COOKIE: Final = 0x2112A442

LDX_IPV4_HEADER: Final = 0xB1
"""X = 4 * (byte[k] & 15): the length of the IPv4 header."""
LDX_CONSTANT: Final = 0x01
LD_HALF: Final = 0x48
LD_WORD: Final = 0x40
LD_LENGTH: Final = 0x80
SUBTRACT: Final = 0x14
A_TO_X: Final = 0x07
JUMP_EQUAL: Final = 0x15
RETURN: Final = 0x06


@dataclass(frozen=True, slots=True)
class Instruction:
    """One classic BPF instruction; `if_true` and `if_false` name labels that jumps go to, "" falls
    through."""

    code: int
    k: int = 0
    if_true: str = ""
    if_false: str = ""
    label: str = ""


def control_filter(port: int, *, ipv6: bool) -> bytes:
    """The filter for one raw socket. IPv4 sockets see the IP header, IPv6 ones begin at the UDP header.

    A load outside the packet rejects it, so the tests at the end go from short to long: a packet too short
    for one length is too short for all later ones.
    """
    head = Instruction(LDX_CONSTANT, 0) if ipv6 else Instruction(LDX_IPV4_HEADER, 0)
    program = [
        head,
        Instruction(LD_HALF, 2),
        Instruction(JUMP_EQUAL, port, "", "reject"),
        Instruction(LD_WORD, 8),
        Instruction(JUMP_EQUAL, DISCO_MAGIC, "accept", ""),
        Instruction(LD_HALF, 8),
        Instruction(JUMP_EQUAL, STUN_RESPONSE, "", "tail0"),
        Instruction(LD_WORD, 12),
        Instruction(JUMP_EQUAL, STUN_COOKIE, "accept", "tail0"),
    ]
    tails = [(n, 4, STUN_COOKIE) for n in STUN_TAIL_BYTES] + [(n, 0, DISCO_MAGIC) for n in DISCO_TAIL_BYTES]
    for index, (length, offset, word) in enumerate(sorted(tails)):
        program += [
            Instruction(LD_LENGTH, label=f"tail{index}"),
            Instruction(SUBTRACT, length),
            Instruction(A_TO_X),
            Instruction(LD_WORD, offset),
            Instruction(JUMP_EQUAL, word, "accept", ""),
        ]
    program += [
        Instruction(RETURN, 0, label="reject"),
        Instruction(RETURN, 0xFFFFFFFF, label="accept"),
    ]
    return _assemble(program)


def _assemble(program: list[Instruction]) -> bytes:
    places = {instruction.label: index for index, instruction in enumerate(program) if instruction.label}

    def skip(index: int, label: str) -> int:
        return places[label] - index - 1 if label else 0

    return b"".join(
        struct.pack("=HBBI", i.code, skip(index, i.if_true), skip(index, i.if_false), i.k)
        for index, i in enumerate(program)
    )


def attach(sock: socket.socket, program: bytes) -> None:
    """Put the filter on a socket, and throw away what was queued before it was there."""
    buffer = ctypes.create_string_buffer(program, len(program))
    fprog = struct.pack("HL", len(program) // 8, ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, fprog)
    while True:
        try:
            sock.recv(1, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
