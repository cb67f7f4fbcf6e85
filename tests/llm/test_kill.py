"""Real processes killed with SIGKILL in the middle of a job: the benchmark's scenario, small."""

import bench_client as bench
import pytest

ONCE_MORE = pytest.mark.slow  # the suite of faults kills single requests too


@pytest.mark.parametrize(
    ("mode", "n_calls", "n_kills"), [pytest.param("single", 150, 2, marks=ONCE_MORE), ("batch", 150, 2)]
)
def test_killed_jobs_end_as_if_nothing_had_happened(tmp_path, mode, n_calls, n_kills):
    facts = bench.run_scenario(
        tmp_path,
        mode=mode,
        n_calls=n_calls,
        n_kills=n_kills,
        seed=1,
        budget_usd=1.0,
        timeout_s=0.7,
        retry_after="0.05",
    )
    assert facts["killed"] >= 1
    assert facts["answered"] == n_calls and facts["exactly_once"] and not facts["failures"]
    assert facts["recorded_twice"] == 0 and facts["paid_though_recorded"] == 0
    assert 0 < facts["server_usd"] <= facts["counted_usd"] <= 1.0
    assert facts["files"] >= 1 and not facts["key_in_a_file"]
    if mode == "batch":
        assert facts["good_answers"] == n_calls  # what a batch answered is never asked for again


def test_the_budget_holds_across_kills(tmp_path):
    price = bench.read_price("loop-1", bench.PRICE)
    budget = 20 * price.worst(bench.make_calls(1)[0])
    facts = bench.run_scenario(
        tmp_path,
        mode="single",
        n_calls=80,
        n_kills=2,
        seed=2,
        budget_usd=budget,
        timeout_s=0.7,
        retry_after="0.05",
        share_asked=0.2,
    )
    assert facts["killed"] >= 1 and set(facts["failures"]) == {"budget"} and facts["answered"] > 0
    assert facts["server_usd"] <= facts["counted_usd"] <= budget
