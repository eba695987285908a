"""Sets of addresses against sets of single numbers."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warren_control.policy import ranges
from warren_control.policy.ranges import AddressSet, Run, parse_block, united

RUNS = st.lists(
    st.tuples(st.integers(0, 40), st.integers(0, 6)).map(lambda p: (p[0], p[0] + p[1])), max_size=6
)


def numbers(found: AddressSet) -> set[int]:
    return {number for first, last in found.runs for number in range(first, last + 1)}


def flat(runs: list[tuple[int, int]]) -> set[int]:
    return {number for first, last in runs for number in range(first, last + 1)}


@given(RUNS, RUNS)
def test_union_difference_and_overlap_are_those_of_sets(
    one: list[tuple[int, int]], two: list[tuple[int, int]]
) -> None:
    a, b = united(one), united(two)
    assert numbers(a) == flat(one)
    assert numbers(a | b) == flat(one) | flat(two)
    assert numbers(a - b) == flat(one) - flat(two)
    assert a.meets(b) == bool(flat(one) & flat(two))
    assert a.contains_all(b) == (flat(two) <= flat(one))


@given(RUNS, st.integers(0, 50), st.integers(0, 9))
def test_runs_are_found_by_overlap(runs: list[tuple[int, int]], first: int, width: int) -> None:
    found, wanted = united(runs), set(range(first, first + width + 1))
    assert found.overlaps(first, first + width) == bool(numbers(found) & wanted)
    assert found.covers(first, first + width) == (wanted <= numbers(found))


@given(RUNS)
def test_runs_are_in_order_and_never_adjacent(runs: list[tuple[int, int]]) -> None:
    found = united(runs).runs
    assert all(left.last + 1 < right.first for left, right in itertools.pairwise(found))


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (["10.0.0.1"], ("10.0.0.1",)),
        (["10.0.0.0", "10.0.0.1"], ("10.0.0.0/31",)),
        (["10.0.0.1", "10.0.0.2"], ("10.0.0.1-10.0.0.2",)),
        (["10.0.0.0/9", "10.128.0.0/9"], ("10.0.0.0/8",)),
        (["255.255.255.255", "::"], ("255.255.255.255", "::")),
        (["fd00::/64", "fd00:0:0:1::/64"], ("fd00::/63",)),
        (["0.0.0.0/0", "::/0"], ("0.0.0.0/0", "::/0")),
    ],
)
def test_runs_are_written_bare_as_prefix_or_from_first_to_last(
    written: list[str], shown: tuple[str, ...]
) -> None:
    assert ranges.of_blocks(parse_block(one) for one in written).texts() == shown


def test_the_mesh_leaves_out_what_chromeos_uses() -> None:
    assert ranges.MESH.texts() == (
        "100.64.0.0-100.115.91.255",
        "100.115.94.0-100.127.255.255",
        "fd7a:115c:a1e0::/48",
    )


def test_the_internet_is_written_in_ranges_even_where_a_prefix_would_do() -> None:
    assert ranges.INTERNET_RANGES == (
        "0.0.0.0-9.255.255.255",
        "11.0.0.0-100.63.255.255",
        "100.128.0.0-169.253.255.255",
        "169.255.0.0-172.15.255.255",
        "172.32.0.0-192.167.255.255",
        "192.169.0.0-255.255.255.255",
        "2000::-3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    )


@pytest.mark.parametrize(
    ("text", "shown", "cidr"),
    [
        ("10.0.0.0/8", "10.0.0.0/8", "10.0.0.0/8"),
        ("10.1.2.3/32", "10.1.2.3", "10.1.2.3/32"),
        ("10.1.2.3", "10.1.2.3", "10.1.2.3/32"),
        ("FD00:0::/64", "fd00::/64", "fd00::/64"),
        ("fd00::1", "fd00::1", "fd00::1/128"),
        ("0.0.0.0/0", "0.0.0.0/0", "0.0.0.0/0"),
    ],
)
def test_addresses_and_prefixes_are_read(text: str, shown: str, cidr: str) -> None:
    block = parse_block(text)
    assert (block.text, block.cidr) == (shown, cidr)


@pytest.mark.parametrize(
    "text",
    [
        "10.0.0.1/8",
        "fd00::1/64",
        "10.0.0.0/33",
        "10.0.0.0/08",
        "10.0.0.256",
        "10.0.0.01",
        "10.0.0/8",
        "10.0.0.0/255.0.0.0",
        "fe80::1%eth0",
        "10.0.0.0/",
        "",
        "1.2.3.4.5",
        "::/129",
        "fd00::/064",
        "1" * 1000,
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_block(text)


def test_host_bits_are_named_with_the_network_they_belong_to() -> None:
    with pytest.raises(ValueError, match=r"host bits set; the network is 10\.0\.0\.0/8"):
        parse_block("10.0.0.1/8")
    with pytest.raises(ValueError, match="host bits set; the network is fd00::/64"):
        parse_block("fd00::1/64")


def test_both_families_share_one_line_of_numbers_without_touching() -> None:
    assert united([Run(0, (1 << 32) - 1), Run(ranges.V6_BASE, ranges.V6_BASE)]).runs[0].last == (1 << 32) - 1
