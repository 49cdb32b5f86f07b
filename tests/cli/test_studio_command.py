"""`run.py studio` as a process: its address, its port, and its end."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest
from studio_serving import HEADERS

from examples import ROOT, run


def start(preset, *more, **how):
    line = [sys.executable, ROOT / "run.py", "studio", "--model", preset, "--no_browser", "--port", 0, *more]
    environment = {**os.environ, "XLA_FLAGS": "", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [str(word) for word in line], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **how
    )


def test_a_taken_port_is_one_line(capsys, preset):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, err = run(capsys, "studio", "--model", preset, "--port", port, "--no_browser")
    assert (code, out) == (1, "")
    assert f"--port: expected a free --port, got {port}" in err or f"expected a free --port, got {port}" in err
    assert err.count("\n") == 1 and "0 for any" in err


def test_an_unknown_model_is_refused_before_anything_is_served(capsys):
    code, out, err = run(capsys, "studio", "--model", "nano-cifra10", "--no_browser")
    assert (code, out) == (1, "")
    assert "did you mean nano-cifar10?" in err


@pytest.mark.slow
@pytest.mark.parametrize("is_in_background", [False, True])
def test_ctrl_c_ends_it_at_once_while_it_loads_and_draws(preset, is_in_background):
    """A shell starts what runs in its background such that it ignores Ctrl-C, until it asks for it."""
    ignore = (lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)) if is_in_background else None
    process = start(preset, "--json", preexec_fn=ignore)
    try:
        address = json.loads(process.stdout.readline())["address"]
        begun = time.monotonic()
        assert "<html" in httpx.get(address).text
        assert time.monotonic() - begun < 5
        with httpx.Client(base_url=address, headers=HEADERS, timeout=60) as client:
            fields = {"model": str(preset), "n": 16}
            with client.stream("POST", "/api/draw", json=fields) as rows:
                next(rows.iter_lines())
                begun = time.monotonic()
                process.send_signal(signal.SIGINT)
                assert process.wait(10) == 130
        assert time.monotonic() - begun < 3
        assert "Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_another_host_needs_a_token_and_warns(preset):
    process = start(preset, "--host", "0.0.0.0")
    try:
        address = process.stdout.readline().strip()
        page, token = address.split("?token=")
        local = f"http://127.0.0.1:{httpx.URL(page).port}/"
        assert len(token) > 15 and httpx.get(local).status_code == 403
        assert httpx.get(local, params={"token": token}).status_code == 200
        process.send_signal(signal.SIGINT)
        assert "everybody who has the whole address" in process.communicate(timeout=10)[1]
    finally:
        process.kill()
        process.communicate()
