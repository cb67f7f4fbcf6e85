import pytest

from tslens.errors import UsageError
from tslens.model.spec import ModelSpec


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("l1_h256", (1, 256, 16, 16, 1024)),
        ("l2_h64", (2, 64, 4, 16, 256)),
        ("l8_h64_a16", (8, 64, 16, 4, 256)),
        ("l4_h768", (4, 768, 16, 48, 3072)),
        ("l1_h128-instruct", (1, 128, 8, 16, 512)),
        ("l2_h1024_a2-instruct", (2, 1024, 2, 512, 4096)),
    ],
)
def test_name_fixes_the_shape_and_back(name, shape):
    spec = ModelSpec.from_name(name)
    assert (spec.n_layers, spec.d_model, spec.n_heads, spec.d_head, spec.d_mlp) == shape
    assert spec.name == name
    assert spec.instruct == name.endswith("-instruct")


def test_default_heads_are_dropped_from_the_name():
    assert ModelSpec.from_name("l1_h256_a16").name == "l1_h256"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("l1_h265", "l1_h256"),
        ("11_h256", "l1_h256"),
        ("l1h64", "l1_h64"),
        ("l0_h64", "l1_h64"),
        ("l1_h256_a3", "l1_h256"),
    ],
)
def test_impossible_names_are_refused_with_the_nearest(name, hint):
    with pytest.raises(UsageError) as caught:
        ModelSpec.from_name(name)
    assert hint in caught.value.hint


def test_parameter_count_of_a_published_model():
    # TinyStories-33M: 4 layers of width 768, 50,257 tokens; its 2,048 positions against our 512
    own = ModelSpec.from_name("l4_h768").n_params(50257)
    assert own + (2048 - 512) * 768 == 68_514_048
