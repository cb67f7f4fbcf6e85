"""Prices, worst cases and estimates."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tslens.errors import UsageError
from tslens.llm.calls import Call, CallFailure
from tslens.llm.estimate import estimate
from tslens.llm.ledger import Ledger
from tslens.llm.prices import Price, most_prompt_tokens, price_table, read_price


def test_the_table_is_dated_and_sane():
    table = price_table()
    assert date.fromisoformat(table["date"]) >= date(2026, 1, 1)
    assert all(0 < usd_in < usd_out for usd_in, usd_out in table["models"].values())


def test_a_dated_name_takes_the_price_of_its_family_unless_it_has_its_own():
    assert read_price("gpt-4o-2024-08-06") == read_price("gpt-4o")
    assert read_price("gpt-4o-2024-05-13") != read_price("gpt-4o")
    assert read_price("gpt-4o-mini").of(2_000_000, 1_000_000) == pytest.approx(0.9)
    assert "check the provider's page" in read_price("gpt-4o").source
    assert read_price("gpt-4o-audio") is None


def test_a_price_may_be_given():
    assert read_price("any", "0.5,2") == Price(0.5, 2.0, "price as given")
    for nonsense in ("1", "1,2,3", "a,b", "-1,2", "nan,1", "inf,1", ""):
        with pytest.raises(UsageError, match="is no price"):
            read_price("any", nonsense)


def test_batches_cost_half():
    assert Price(1.0, 2.0, "test").in_batch().of(1_000_000, 1_000_000) == 1.5


@given(text=st.text(max_size=200), n_messages=st.integers(1, 4))
def test_no_tokenizer_makes_more_tokens_than_the_bound(text, n_messages):
    call = Call("k", (("user", text),) * n_messages, "m", 1.0, 10)
    assert most_prompt_tokens(call) >= n_messages * len(text.encode())


def test_the_worst_case_counts_the_schema(make_calls):
    (with_schema,), (without,) = make_calls(1), make_calls(1, answer=None)
    assert most_prompt_tokens(with_schema) > most_prompt_tokens(without) + 100


def test_an_estimate_counts_each_call_once(make_calls, tmp_path, serve, price):
    from tslens.llm.client import Client

    server = serve()
    calls = make_calls(10, server=server.url)
    with Ledger(tmp_path, "job") as ledger:
        client = Client(ledger, price=price, base_url=server.url)
        assert len(list(client.answer(calls[:4]))) == 4
        found = estimate(calls + calls[5:7], price, ledger)
    assert (found.n_calls, found.n_answered, found.n_repeated) == (12, 4, 2)
    assert found.worst_usd == pytest.approx(sum(price.worst(call) for call in calls[4:]))
    assert 0 < found.expected_usd < found.worst_usd
    unknown = estimate(calls, None)
    assert unknown.n_calls == 10 and unknown.worst_usd is None and unknown.expected_usd is None


def test_an_estimate_counts_what_is_to_be_asked_again(make_calls, tmp_path, price):
    calls = make_calls(5)
    with Ledger(tmp_path, "job") as ledger:
        for call in calls[:2]:
            ledger.gave_up(call, CallFailure(call.key, "refusal", "no"))
        found = estimate(calls, price, ledger)
        again = estimate(calls, price, ledger, retry_failed=True)
    assert (found.n_answered, again.n_answered) == (2, 0)
    assert again.worst_usd == pytest.approx(sum(map(price.worst, calls)))
    assert found.worst_usd == pytest.approx(sum(map(price.worst, calls[2:])))
