import numpy as np
import pytest

from tslens.corpus.digest_set import DigestSet

LARGEST = 2**64 - 1


@pytest.mark.parametrize("digests", [[], [0], [LARGEST, 0, 7, 7, 2**63 + 5], list(range(0, 900, 3))])
def test_it_is_the_set_of_its_digests(digests: list[int]) -> None:
    expected = frozenset(digests)
    for found in (DigestSet(digests), DigestSet(np.array(digests, dtype=np.uint64))):
        assert found == expected and expected == found and len(found) == len(expected)
        assert bool(found) == bool(expected) and sorted(found) == sorted(expected)
        assert all(type(digest) is int for digest in found)
        for digest in {*digests, 0, 1, 6, 8, 2**63, LARGEST, LARGEST - 1}:
            assert (digest in found) == (digest in expected)


@pytest.mark.parametrize("other", [-1, 2**64, 2**70, 1.5, "a", None])
def test_what_is_no_digest_is_not_in_it(other: object) -> None:
    assert other not in DigestSet([1, 2, LARGEST])


def test_unions_and_intersections_are_those_of_any_set() -> None:
    some = DigestSet([3, LARGEST])
    assert some | {4} == {3, 4, LARGEST} == frozenset({4}) | some
    assert frozenset() | some | DigestSet([9]) == {3, 9, LARGEST}
    assert some & {3, 8} == {3} and np.uint64(3) in some
    assert not some & {5}


def test_eight_bytes_a_digest() -> None:
    assert DigestSet(range(1000))._sorted.nbytes == 8000
