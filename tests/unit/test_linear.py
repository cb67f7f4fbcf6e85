"""Linear maps by oneDNN give what PyTorch's own give, and stand aside where they must."""

import pytest
import torch
import torch.nn.functional as F

from tslens.model import linear as linear_module
from tslens.model.linear import MIN_ROWS, linear


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
