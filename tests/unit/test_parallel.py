"""Streams over several processes: in order, bounded, errors raised."""

from itertools import count

import pytest

from tslens.corpus.parallel import map_chunks
from tslens.errors import DataError


def double(numbers: list[int]) -> list[int]:
    return [2 * number for number in numbers]


def fail(numbers: list[int]) -> list[int]:
    raise ValueError(f"no {numbers[0]}")


@pytest.mark.parametrize("n_processes", [1, 2])
def test_order_is_kept(n_processes):
    assert list(map_chunks(double, range(25), n_processes=n_processes, chunk_size=4)) == list(range(0, 50, 2))


def test_an_endless_stream_is_read_as_it_is_needed():
    taken = []
    numbers = (taken.append(n) or n for n in count())
    made = map_chunks(double, numbers, n_processes=1, chunk_size=3)
    assert [next(made) for _ in range(4)] == [0, 2, 4, 6]
    assert len(taken) == 6


@pytest.mark.parametrize("n_processes", [1, 2])
def test_errors_come_back(n_processes):
    with pytest.raises(ValueError, match="no 0"):
        list(map_chunks(fail, range(5), n_processes=n_processes, chunk_size=2))


def refuse(numbers: list[int]) -> list[int]:
    raise DataError(f"{numbers[0]} is wrong.", "Mend it.")


@pytest.mark.parametrize("n_processes", [1, 2])
def test_errors_of_ours_come_back_whole(n_processes):
    with pytest.raises(DataError) as caught:
        list(map_chunks(refuse, range(5), n_processes=n_processes, chunk_size=2))
    assert (caught.value.message, caught.value.hint) == ("0 is wrong.", "Mend it.")
