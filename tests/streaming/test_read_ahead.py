"""Frames that a thread makes while a chunk is computed."""

from __future__ import annotations

import itertools
import threading
import time

import pytest

from manyview.streaming.frames import read_ahead


def test_items_come_in_order_and_a_bounded_number_ahead():
    made: list[int] = []

    def numbers():
        for number in range(20):
            made.append(number)
            yield number

    found = read_ahead(numbers(), 3)
    assert next(found) == 0
    deadline = time.monotonic() + 10
    while len(made) < 4 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert made == [0, 1, 2, 3]
    assert list(found) == list(range(1, 20))
    assert list(read_ahead(iter(()), 4)) == []


def test_errors_come_where_they_belong_and_no_thread_stays():
    def failing():
        yield 1
        yield 2
        raise ValueError("third")

    before = threading.active_count()
    found = read_ahead(failing(), 4)
    assert list(itertools.islice(found, 2)) == [1, 2]
    with pytest.raises(ValueError, match="third"):
        next(found)
    half = read_ahead(iter(range(100)), 2)
    next(half)
    half.close()
    assert threading.active_count() == before
