"""The gate before the server: how many at once, when, and after which wait."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tslens.llm import pace
from tslens.llm.pace import Pace, Tries, backoff


def test_the_limit_rises_by_one_a_round_and_falls_by_half_once_a_round():
    async def scenario():
        gate = Pace(16)
        entered = [await gate.enter() for _ in range(16)]
        gate.slow_down(entered[0], 0.5)
        for moment in entered[1:]:
            gate.slow_down(moment, 0.5)  # they were sent before the decrease
        assert gate.limit == 8
        for _ in entered:
            gate.leave()
        later = await gate.enter()
        gate.slow_down(later, 0.8)
        assert gate.limit == pytest.approx(6.4)
        before = gate.limit
        for _ in range(6):
            gate.speed_up()
        assert before + 0.8 < gate.limit < before + 1.0
        for _ in range(1000):
            gate.speed_up()
        assert gate.limit == 16
        for _ in range(30):
            gate.slow_down(float("inf"), 0.5)
        assert gate.limit == 1

    asyncio.run(scenario())


@given(most=st.integers(1, 6), n_calls=st.integers(1, 30), factor=st.sampled_from([0.5, 0.8, 1.0]))
def test_never_more_than_the_limit_and_nobody_is_forgotten(most, n_calls, factor):
    async def scenario():
        gate, n_done = Pace(most), 0

        async def call(index):
            nonlocal n_done
            entered = await gate.enter()
            assert gate.n_out <= most
            await asyncio.sleep(0)
            if index % 3 == 0:
                gate.slow_down(entered, factor)
            else:
                gate.speed_up()
            gate.leave()
            n_done += 1

        await asyncio.wait_for(asyncio.gather(*map(call, range(n_calls))), 10)
        assert n_done == n_calls and gate.n_out == 0

    asyncio.run(scenario())


def test_a_pause_holds_back_new_sends(monkeypatch):
    clock = [100.0]
    slept = []

    async def sleep(seconds):
        slept.append(seconds)
        clock[0] += seconds

    async def scenario():
        gate = Pace(4)
        gate.pause(3.0)
        gate.pause(1.0)  # the longer one counts
        await gate.enter()
        assert clock[0] >= 103.0 and len(slept) == 1

    monkeypatch.setattr(pace.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(pace.asyncio, "sleep", sleep)
    asyncio.run(scenario())


@given(n_failures=st.integers(0, 50), asked=st.floats(0, 100))
def test_waits_are_random_bounded_and_never_shorter_than_asked(n_failures, asked):
    waits = {backoff(n_failures, asked) for _ in range(20)}
    assert len(waits) > 1
    assert all(
        asked <= wait <= asked + min(pace.MAX_BACKOFF_S, pace.BACKOFF_S * 2**n_failures) for wait in waits
    )


def test_busy_is_no_lost_send_and_ends_too():
    tries = Tries(2)
    for _ in range(19):
        assert tries.count(is_busy=True, asked_s=1.5) >= 1.5
    for _ in range(3):
        tries.count(is_busy=False, asked_s=0.0)
    assert not tries.are_spent and str(tries) == "22 tries"
    tries.count(is_busy=True, asked_s=0.0)
    assert tries.are_spent
    lost = Tries(1)
    lost.count(is_busy=False, asked_s=0.0)
    assert not lost.are_spent
    lost.count(is_busy=False, asked_s=0.0)
    assert lost.are_spent
