"""Linear maps by oneDNN give what PyTorch's own give, and stand aside where they must."""

import pytest
import torch
import torch.nn.functional as F

from tslens.model import linear as linear_module
from tslens.model.linear import MIN_ROWS, linear, round_rows


@pytest.fixture
def onednn_calls(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What was decided at each call."""
    decide, calls = linear_module._by_onednn, []

    def watched(x: torch.Tensor, weight: torch.Tensor) -> bool:
        calls.append(decide(x, weight))
        return calls[-1]

    monkeypatch.setattr(linear_module, "_by_onednn", watched)
    return calls


@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("shape", [(MIN_ROWS - 1,), (MIN_ROWS,), (3, 41), (2, 3, 29), (0, 7)])
def test_it_equals_the_product_in_float64(
    gelu: bool, has_bias: bool, turned: bool, shape: tuple[int, ...]
) -> None:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(*shape, 24, generator=draw)
    weight = torch.randn(24, 56, generator=draw).T if turned else torch.randn(56, 24, generator=draw)
    bias = torch.randn(56, generator=draw) if has_bias else None
    expected = F.linear(x.double(), weight.double(), None if bias is None else bias.double())
    if gelu:
        expected = F.gelu(expected, approximate="tanh")
    with torch.no_grad():
        found = linear(x, weight, bias, gelu=gelu)
    assert found.dtype == torch.float32 and found.shape == (*shape, 56)
    torch.testing.assert_close(found.double(), expected, atol=2e-5, rtol=1e-5)


def test_a_slice_of_a_larger_tensor_is_read_in_its_own_order() -> None:
    whole = torch.randn(4, 60, 2, 16, generator=torch.Generator().manual_seed(1))
    weight = torch.randn(8, 16, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        torch.testing.assert_close(linear(whole[:, :, 1], weight), whole[:, :, 1] @ weight.T)


@pytest.mark.parametrize("n_rows", [MIN_ROWS, 33, 64, 255, 257, 1023, 1025, 1500, 2048, 2049, 99_999])
def test_few_numbers_of_rows_and_little_waste(n_rows: int) -> None:
    assert n_rows <= round_rows(n_rows) <= max(n_rows * 9 / 8, n_rows + MIN_ROWS - 1)
    assert round_rows(round_rows(n_rows)) == round_rows(n_rows)
    assert len({round_rows(n) for n in range(n_rows, 2 * n_rows)}) <= 10


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch is built without oneDNN")
def test_onednn_sees_few_numbers_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps what it compiles for each: half a megabyte and more."""
    seen, product = list[int](), torch.ops.mkldnn._linear_pointwise

    def watched(x: torch.Tensor, *rest: object) -> torch.Tensor:
        seen.append(len(x))
        return product(x, *rest)

    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", watched)
    weight = torch.randn(4, 8)
    with torch.no_grad():
        for n_pos in range(100, 200):
            linear(torch.randn(3, n_pos, 8), weight)
    assert len(seen) == 100 and len(set(seen)) <= 10


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch is built without oneDNN")
def test_onednn_runs_where_it_is_faster_and_only_there(
    onednn_calls: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, weight = torch.randn(64, 8), torch.nn.Parameter(torch.randn(4, 8))
    linear(x, weight).sum().backward()  # needs a gradient
    assert weight.grad is not None
    with torch.no_grad():
        linear(x, weight)
        linear(x[:3], weight)  # few rows
        linear(x.double(), weight.double())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert linear(x, weight).dtype == torch.bfloat16
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
        linear(x, weight)
    assert onednn_calls == [False, True, False, False, False, False]
