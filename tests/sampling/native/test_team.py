"""Threads that compute together end together, whatever happens to one of them."""

import os
import threading

import numpy as np
import pytest

from examples import run_python
from igpt_tf.sampling.native import team
from igpt_tf.sampling.native.team import Team, count_cores
from igpt_tf.sampling.native.vectors import barrier


@pytest.mark.parametrize("size", [1, 2, 5])
def test_all_pass_each_barrier_together(size):
    crew = Team(size)
    for _ in range(3):
        passed = np.zeros((100, size), int)

        def part(thread, counters, passed=passed):
            for i in range(100):
                passed[i, thread] += 1
                assert barrier(counters, size)
                assert passed[i].sum() == size

        crew.run(part)


def test_an_error_in_one_thread_ends_all_and_is_raised():
    crew = Team(3)
    with pytest.raises(ValueError, match="the second"):
        crew.run(second_fails)
    # The next step is not disturbed.
    crew.run(lambda thread, counters: barrier(counters, 3))
    with pytest.raises(KeyboardInterrupt):
        crew.run(interrupted_first)
    crew.run(lambda thread, counters: barrier(counters, 3))


class Interrupted:
    """A queue of jobs at which Ctrl-C arrives once."""

    def __init__(self, jobs):
        self.jobs, self.arrived = jobs, False

    def put(self, job):
        if not self.arrived:
            self.arrived = True
            raise KeyboardInterrupt
        self.jobs.put(job)


@pytest.mark.parametrize("number", [0, 1])
def test_an_interruption_before_all_have_begun_disturbs_nothing_later(number):
    crew = Team(3)
    crew.run(lambda thread, counters: barrier(counters, 3))
    crew._jobs[number] = Interrupted(crew._jobs[number])
    with pytest.raises(KeyboardInterrupt):
        crew.run(lambda thread, counters: barrier(counters, 3))
    passed = []
    crew.run(lambda thread, counters: passed.append(barrier(counters, 3)))
    assert passed == [True] * 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_a_forked_process_starts_threads_of_its_own():
    """The threads of the first process do not exist there: waiting for them would take for ever."""
    code = """
import os, signal
from igpt_tf.sampling.native.team import Team
crew, passed = Team(2), []
crew.run(lambda thread, counters: None)
pid = os.fork()
signal.alarm(60)
crew.run(lambda thread, counters: passed.append(thread))
if pid == 0:
    os._exit(len(passed))
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    assert run_python(code).stdout == "2\n"


def second_fails(thread, counters):
    """The others stop waiting for it."""
    if thread == 1:
        raise ValueError("the second")
    assert not barrier(counters, 3)


def interrupted_first(thread, counters):
    """Ctrl-C reaches the caller while the others wait for it."""
    if thread == 0:
        raise KeyboardInterrupt
    assert not barrier(counters, 3)


def test_threads_end_with_the_team():
    before = threading.active_count()
    crew = Team(4)
    crew.run(lambda thread, counters: None)
    assert threading.active_count() == before + 3
    del crew
    for thread in threading.enumerate():
        if thread.name.startswith("igpt"):
            thread.join(5)
    assert threading.active_count() == before


@pytest.mark.parametrize("quota, cores", [("100000 100000", 1), ("max 100000", None), ("50000 100000", 1), ("", None)])
def test_a_containers_quota_counts(tmp_path, monkeypatch, quota, cores):
    expected = count_cores()
    (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(team, "CPU_QUOTA", tmp_path / "cpu.max")
    assert count_cores() == (cores or expected)
