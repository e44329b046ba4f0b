from __future__ import annotations

import pytest
from lightspeed_proxy.host_pace import MOST_HOSTS, Bucket, HostPace


def test_each_host_has_its_own_pace() -> None:
    pace = HostPace(3)
    assert [pace.admit("192.0.2.1", 5.0) for _ in range(5)] == [True] * 3 + [False] * 2
    assert pace.admit("192.0.2.2", 5.0)
    assert pace.admit("192.0.2.1", 5.4)


@pytest.mark.parametrize(
    ("other", "same"),
    [("2001:db8::2", True), ("2001:db8::9:9:9:9", True), ("2001:db8:0:1::1", False)],
)
def test_an_ipv6_network_is_one_host(other: str, same: bool) -> None:
    pace = HostPace(1)
    assert pace.admit("2001:db8::1", 0.0)
    assert pace.admit(other, 0.0) is not same


def test_a_scope_does_not_matter() -> None:
    assert HostPace(1).admit("fe80::1%eth0", 0.0)


def test_hosts_are_forgotten_when_there_are_too_many() -> None:
    pace = HostPace(1)
    for number in range(MOST_HOSTS + 100):
        pace.admit(f"10.0.{number >> 8}.{number & 255}", 0.0)
    assert len(pace) == MOST_HOSTS
    assert pace.admit("10.0.0.0", 0.0)  # the oldest went first
    assert not pace.admit(f"10.0.{MOST_HOSTS >> 8}.9", 0.0)


def test_a_bucket_is_full_at_first_and_fills_one_by_one() -> None:
    bucket = Bucket(2.0, 3)
    assert [bucket.admit(10.0) for _ in range(5)] == [True] * 3 + [False] * 2
    assert not bucket.admit(11.9)
    assert bucket.admit(12.0)
    assert not bucket.admit(12.0)
    assert [bucket.admit(100.0) for _ in range(4)] == [True] * 3 + [False]
