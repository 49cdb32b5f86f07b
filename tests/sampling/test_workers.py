"""Generators on several devices: in order of arrival, one at a time each, and none left behind."""

import itertools
import threading
import time

import pytest

from igpt_tf.sampling.workers import require_open, run_generators


def threads():
    """All but the main one, and those of compiled networks, which live as long as these."""
    everyone = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    return [thread for thread in everyone if not thread.name.startswith("igpt-")]


@pytest.fixture(autouse=True)
def no_thread_is_left_behind():
    before = threads()
    yield
    assert threads() == before


def one_step(device, job):
    yield job


def test_all_that_is_yielded_arrives_in_the_order_of_its_job():
    def work(device, job):
        for part in range(3):
            yield job, part

    found = list(run_generators(range(20), 3, work))
    assert sorted(found) == list(itertools.product(range(20), range(3)))
    assert all([part for one, part in found if one == job] == [0, 1, 2] for job in range(20))


def test_no_jobs():
    assert list(run_generators([], 2, one_step)) == []


@pytest.mark.parametrize("leave", [GeneratorExit, KeyboardInterrupt])
def test_leaving_closes_the_generators_of_all_devices(leave):
    closed = []

    def work(device, job):
        try:
            while True:
                yield device
                time.sleep(0.001)
        finally:
            closed.append(device)

    running = run_generators(itertools.count(), 3, work)
    while {next(running) for _ in range(20)} != {0, 1, 2}:
        pass
    if leave is GeneratorExit:
        running.close()
    else:
        with pytest.raises(leave):
            running.throw(leave)
    assert sorted(closed) == [0, 1, 2]


def test_the_first_error_is_raised_and_ends_all():
    def work(device, job):
        yield job
        if job == 5:
            raise ValueError("the sixth job")

    with pytest.raises(ValueError, match="the sixth job"):
        list(run_generators(itertools.count(), 2, work))


def test_an_error_of_the_jobs_is_raised():
    def jobs():
        yield 0
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        list(run_generators(jobs(), 2, one_step))


def test_no_more_is_done_than_is_soon_taken():
    begun = []

    def work(device, job):
        begun.append(job)
        yield job

    running = run_generators(itertools.count(), 2, work)
    for _ in range(3):
        next(running)
    time.sleep(0.1)
    assert len(begun) <= 3 + 4
    running.close()


def test_closing_ends_work_between_two_rows():
    """A row of a large model takes many seconds, a step a part of one."""

    def endless(device, job):
        yield job
        while True:
            require_open()
            time.sleep(0.001)

    generator = run_generators([0, 1], 2, endless)
    next(generator)
    generator.close()
    # This thread's own work goes on.
    require_open()
