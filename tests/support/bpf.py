"""Runs classic BPF programs on bytes, as the kernel would, for tests of filters."""

from __future__ import annotations

import struct


def run_filter(program: bytes, packet: bytes) -> int:
    """What the program returns for the packet; 0 rejects it. A load outside the packet rejects."""
    instructions = list(struct.iter_unpack("=HBBI", program))
    accumulator = index = at = 0
    while True:
        code, if_true, if_false, k = instructions[at]
        at += 1
        match code:
            case 0xB1:
                if k >= len(packet):
                    return 0
                index = 4 * (packet[k] & 15)
            case 0x01:
                index = k
            case 0x40 | 0x48:
                size = 4 if code == 0x40 else 2
                start = (index + k) & 0xFFFFFFFF
                if start + size > len(packet):
                    return 0
                accumulator = int.from_bytes(packet[start : start + size], "big")
            case 0x80:
                accumulator = len(packet)
            case 0x14:
                accumulator = (accumulator - k) & 0xFFFFFFFF
            case 0x07:
                index = accumulator
            case 0x15:
                at += if_true if accumulator == k else if_false
            case 0x06:
                return int(k)
            case _:
                raise ValueError(f"no such instruction: {code:#x}")
