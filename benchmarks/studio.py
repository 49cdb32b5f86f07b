"""How soon does the studio draw, and does it stay fair, whole and small when many draw at once?

    python -m benchmarks.studio --seconds 300 --browsers 8

Serves a model in a process of its own and lets browsers' worth of requests draw four lower halves again and again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests

MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano-cifar10")
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--browsers", type=int, default=8)
    parser.add_argument("--n", type=int, default=4, help="candidates of each drawing")
    options = parser.parse_args()
    line = [
        sys.executable,
        "-m",
        "igpt_tf",
        "studio",
        "--model",
        options.model,
        "--no_browser",
        "--port",
        "0",
        "--json",
    ]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
    try:
        address = json.loads(process.stdout.readline())["address"]
        print(json.dumps(measure(address, process.pid, options)))
    finally:
        process.kill()


def measure(address: str, pid: int, options: argparse.Namespace) -> dict[str, Any]:
    begun = time.monotonic()
    state = {}
    while state.get("state") != "ready":
        time.sleep(0.2)
        (state,) = requests.get(f"{address}api/state", timeout=60).json()["models"]
        if state["state"] == "failed":
            raise SystemExit(state["problem"])
    ready = time.monotonic() - begun
    n = state["n_px"] ** 2
    order = {"model": options.model, "tokens": [0] * n, "known": [1] * (n // 2) + [0] * (n // 2), "n": options.n}
    if options.n != 4:
        list(rows(address, order, "first"))
    firsts = [first_row(address, order | {"seed": seed}) for seed in range(5)]
    before, n_drawn, problems = resident(pid), [0] * options.browsers, []
    end = time.monotonic() + options.seconds

    def browse(number: int) -> None:
        while time.monotonic() < end:
            try:
                last = list(rows(address, order | {"seed": n_drawn[number]}, f"browser {number}"))[-1]
                assert len(last["nats"]) == options.n
                n_drawn[number] += 1
            except Exception as error:
                problems.append(repr(error))

    threads = [threading.Thread(target=browse, args=[number]) for number in range(options.browsers)]
    middle = threading.Timer(options.seconds / 2, lambda: before.append(resident(pid)[0]))
    for thread in [*threads, middle]:
        thread.start()
    for thread in threads:
        thread.join()
    return {
        "benchmark": "studio",
        "model": options.model,
        "seconds_until_ready": round(ready, 1),
        "seconds_to_first_row": round(statistics.median(firsts), 2),
        "browsers": options.browsers,
        "seconds": options.seconds,
        "drawings": sum(n_drawn),
        "drawings_of_a_browser": [min(n_drawn), max(n_drawn)],
        "errors": len(problems),
        "first_error": problems[0] if problems else None,
        "mib_before_middle_after": [*before, *resident(pid)],
    }


def rows(address: str, order: dict[str, Any], client: str) -> Iterator[dict[str, Any]]:
    """The events of a drawing."""
    headers = {"x-igpt-studio": client}
    with requests.post(f"{address}api/draw", json=order, headers=headers, stream=True, timeout=600) as answer:
        answer.raise_for_status()
        for line in answer.iter_lines(chunk_size=None):
            event = json.loads(line)
            if "error" in event:
                raise RuntimeError(event["error"])
            yield event


def first_row(address: str, order: dict[str, Any]) -> float:
    """Seconds until the first row that is drawn arrives; the rest is drawn, too."""
    begun = time.monotonic()
    arrived = [time.monotonic() - begun for event in rows(address, order, "first") if event.get("progress", 0) > 0]
    return arrived[0]


def resident(pid: int) -> list[int]:
    """The memory of a process in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return [int(line.split()[1]) * 1024 // MIB for line in lines if line.startswith("VmRSS")]


if __name__ == "__main__":
    main()
