"""Progress bars go to terminals and notebooks alone."""

import functools
import io
import sys

from igpt_tf.cli.console import doing, remark, set_quiet
from igpt_tf.progress import ProgressBar
from igpt_tf.scoring.evaluation import score


class Terminal(io.StringIO):
    """Standard error that somebody looks at."""

    def isatty(self):
        """Yes."""
        return True


def shown_of(monkeypatch):
    """What a terminal shows of `work`."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", Terminal())
        work()
        return sys.stderr.getvalue()


def work():
    with doing("loading"):
        pass
    with ProgressBar(total=2, first="compiling", desc="drawing", mininterval=0) as bar:
        bar.update(0)
        bar.update()
        bar.update()
    remark("done")


def test_a_terminal_sees_what_happens_and_nothing_stays(monkeypatch):
    shown = shown_of(monkeypatch)
    words = ["loading ...", "compiling:   0%", "drawing:  50%", "drawing: 100%", "done"]
    places = [shown.index(word) for word in words]
    assert places == sorted(places)
    last = shown.split("\r")[-1]
    assert last.strip() == "run.py: done"


def test_quiet_hides_bars_and_remarks(monkeypatch):
    set_quiet(True)
    try:
        assert shown_of(monkeypatch) == ""
    finally:
        set_quiet(False)


def test_a_pipe_gets_remarks_alone(capsys):
    work()
    assert capsys.readouterr().err == "run.py: done\n"


def test_predictions_are_counted(monkeypatch, tiny_model, tokens):
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", Terminal())
        patch.setattr(ProgressBar, "__init__", functools.partialmethod(ProgressBar.__init__, mininterval=0))
        score(tiny_model, tokens, batch_size=2, progress=True)
        shown = sys.stderr.getvalue()
    assert "compiling:   0%" in shown and "predicting:  40%" in shown
