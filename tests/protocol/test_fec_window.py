"""Both ends of the window code over bad networks: what the game gets, and how much is missing."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightspeed_protocol.fec.window import Plan, WindowDecoder, WindowEncoder

from tests.support.window_code import Network, Packet, receive, receive_all, sent

PLANS: list[Plan | None] = [
    None,
    Plan.xor(2),
    Plan.xor(4),
    Plan.xor(16),
    Plan(8, 4),
    Plan(4, 4),
    Plan(2, 4),
    Plan(1, 4),
    Plan(1, 16),
    Plan(2, 2, stride=3),
    Plan(1, 1, delay=3),
    Plan(1, 3, field=0),
    Plan(3, 8, stride=16, delay=15),
    Plan(1, 64, stride=2),
]


def check(decoder: WindowDecoder, arriving: list[Packet], sent_payloads: list[bytes]) -> set[bytes]:
    """What was delivered; every original at once, nothing twice, nothing that was not sent."""
    true = set(sent_payloads)
    assert len(true) == len(sent_payloads)
    delivered: set[bytes] = set()
    originals = 0
    for packet in arriving:
        now = receive(decoder, packet)
        if not packet.is_repair and packet.body not in delivered:
            assert now[0] == packet.body
            originals += 1
        for payload in now:
            assert payload not in delivered
            assert payload in true
            delivered.add(payload)
    assert delivered >= {packet.body for packet in arriving if not packet.is_repair}
    assert (originals, decoder.recovered) == (decoder.sources, len(delivered) - originals)
    assert (decoder.lies, decoder.late, decoder.exhausted) == (0, 0, 0)
    return delivered


@given(
    plans=st.lists(st.sampled_from(PLANS), min_size=1, max_size=6),
    first=st.sampled_from((0, 40, 0xFFC0, 0xFFFF)),
    count=st.integers(1, 200),
    loss=st.sampled_from((0.0, 0.05, 0.3)),
    reordering=st.sampled_from((0.0, 0.02, 1.0)),
    from_start=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_delivery_is_a_superset_without_copies_or_inventions(
    plans: list[Plan | None],
    first: int,
    count: int,
    loss: float,
    reordering: float,
    from_start: bool,
    seed: int,
) -> None:
    """Any plans, changed with any packet; large packets, flushes, loss, reordering, copies."""
    rng = random.Random(seed)
    encoder = WindowEncoder(plans[0], first_ssn=first)
    network = Network(rng, loss=loss, reordering=reordering, duplication=0.05)
    payloads: list[bytes] = []
    for number in range(count):
        if rng.random() < 0.3:
            encoder.plan = rng.choice(plans)
        size = 1500 if rng.random() < 0.02 else rng.randrange(30)
        payloads.append(number.to_bytes(2, "big") + rng.randbytes(size))
        for packet in sent(encoder, payloads[-1]):
            network.carry(packet)
        if encoder.pending() and rng.random() < 0.1:
            for repair in (encoder.flush(), encoder.flush(again=True)):
                assert repair is not None
                network.carry(Packet(*repair, is_repair=True))
    delivered = check(WindowDecoder(from_start=from_start), network.arriving(), payloads)
    if not loss:
        assert len(delivered) == count


def test_a_hundred_thousand_packets_across_the_wrap_with_every_plan() -> None:
    rng = random.Random(11)
    encoder = WindowEncoder(None, first_ssn=60_000)
    network = Network(rng, loss=0.05, reordering=0.02, duplication=0.01)
    payloads = []
    for number in range(100_000):
        if rng.random() < 0.01:
            encoder.plan = rng.choice(PLANS[1:])
        payloads.append(number.to_bytes(3, "big") + bytes(rng.randrange(40)))
        for packet in sent(encoder, payloads[-1]):
            network.carry(packet)
    decoder = WindowDecoder()
    arriving = network.arriving()
    delivered = check(decoder, arriving, payloads)
    lost = 100_000 - len({packet.body for packet in arriving if not packet.is_repair})
    assert lost > 4500
    assert decoder.duplicates > 900
    assert len(delivered) > 100_000 - 0.2 * lost


# --- residual loss, in virtual time. Source of the figures: design notes for the window code, a
# simulation of 1.5·10^6 packets per cell at 64 packets/s and 50 ms.

INTERVAL_S = 1 / 64
BUDGET_S = 0.05


def residual(plan: Plan, loss: float, *, count: int, seed: int) -> tuple[float, float]:
    """Percent of packets not known within the budget, and the mean delay of repair in ms."""
    rng = random.Random(seed)
    encoder, decoder = WindowEncoder(plan), WindowDecoder(from_start=True)
    in_time, waited_s = 0, 0.0
    for number in range(count):
        for packet in sent(encoder, number.to_bytes(4, "big")):
            if rng.random() < loss:
                continue
            for payload in receive(decoder, packet):
                delay_s = (number - int.from_bytes(payload, "big")) * INTERVAL_S
                in_time += delay_s <= BUDGET_S
                waited_s += delay_s
    assert (decoder.lies, decoder.exhausted) == (0, 0)
    return 100 * (1 - in_time / count), 1000 * waited_s / decoder.recovered


@pytest.mark.parametrize(
    ("plan", "loss", "want_percent", "tolerance", "want_delay_ms"),
    [
        pytest.param(Plan.xor(4), 0.05, 0.93, 0.1, 24, id="XOR of 4, 5 %"),
        pytest.param(Plan(2, 4), 0.05, 0.091, 0.03, 11, id="1 per 2, window 4, 5 %"),
        pytest.param(Plan(1, 4), 0.1, 0.015, 0.015, 2.2, id="1 per 1, window 4, 10 %"),
    ],
)
def test_residual_loss_is_what_the_design_promises(
    plan: Plan, loss: float, want_percent: float, tolerance: float, want_delay_ms: float
) -> None:
    percent, delay_ms = residual(plan, loss, count=100_000, seed=5)
    assert percent == pytest.approx(want_percent, abs=tolerance)
    assert delay_ms == pytest.approx(want_delay_ms, rel=0.1)


# Every plan in use (`residual.candidates`), the second path's, and the widest there may be; then
# the work for each source packet that came, at 20 % loss: the most of the three kinds, rounded up.
WORK = {
    "8,4": (Plan(8, 4), 0.5),
    "2,4": (Plan(2, 4), 1.5),
    "1,3": (Plan(1, 3), 1.5),
    "copy": (Plan(1, 1, delay=12), 0.5),
    "pairs": (Plan(2, 2, stride=11), 0.6),
    "1,13": (Plan(1, 13), 5),
    "2,13": (Plan(2, 13), 4),
    "4,32": (Plan(4, 32), 11),
    "1,64": (Plan(1, 64), 20),
    "2,64": (Plan(2, 64), 20),
    "3,64": (Plan(3, 64), 20),
    "1,64 apart": (Plan(1, 64, stride=2), 20),
}


@pytest.mark.parametrize("run", [1, 3, 5])
@pytest.mark.parametrize(("plan", "most"), [pytest.param(*w, id=name) for name, w in WORK.items()])
def test_honest_repairs_are_never_refused_for_their_work(plan: Plan, most: float, run: int) -> None:
    """20 % of all packets lost, in runs that take repairs along, and 2 % out of order."""
    rng = random.Random(run)
    encoder, decoder = WindowEncoder(plan), WindowDecoder(from_start=True)
    network = Network(rng, reordering=0.02, duplication=0.01)
    lost = False
    for number in range(5000):
        lost = rng.random() >= 1 / run if lost and run > 1 else rng.random() < 0.25 / run
        if run == 1:
            network.loss = 0.2
        elif lost:
            encoder.protect(number.to_bytes(4, "big"))
            continue
        for packet in sent(encoder, number.to_bytes(4, "big")):
            network.carry(packet)
    receive_all(decoder, network.arriving())
    assert decoder.sources > 3500
    assert decoder.repairs > 3500 // plan.every
    assert (decoder.exhausted, decoder.lies) == (0, 0)
    assert decoder.work / decoder.sources <= most


def test_two_flushes_protect_the_last_packet_before_silence() -> None:
    """Ten packets, then silence, at 5 % loss: the last is lost in .05 % at most, not in 5 %."""
    rng = random.Random(2)
    missing = 0
    for _ in range(10_000):
        encoder, decoder = WindowEncoder(Plan(4, 4)), WindowDecoder(from_start=True)
        packets = [packet for number in range(10) for packet in sent(encoder, bytes([number]))]
        for repair in (encoder.flush(), encoder.flush(again=True)):
            assert repair is not None
            packets.append(Packet(*repair, is_repair=True))
        got = [p for packet in packets if rng.random() >= 0.05 for p in receive(decoder, packet)]
        missing += b"\x09" not in got
    assert 0 < missing <= 6
