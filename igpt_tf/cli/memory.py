"""Whether a batch fits into memory, before the system ends a process that takes too much."""

from __future__ import annotations

import math
from pathlib import Path

from igpt_tf.config import QUERY_CHUNK, ImageGPTConfig
from igpt_tf.errors import UserError
from igpt_tf.sampling.devices import has_gpus

GIB = 2**30
MEMINFO, OWN_CGROUPS, CGROUPS = Path("/proc/meminfo"), Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
# Images surely fit that are estimated to take the memory divided by this.
SURELY = 2
# Bytes of a number, and of one in the cache of images that are drawn.
FLOAT = 4
BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}


def available_memory() -> float | None:
    """Bytes that this process may still take, swap included; None where the system does not tell."""
    try:
        lines = (line.split() for line in MEMINFO.read_text(encoding="utf-8").splitlines())
        sizes = {name.rstrip(":"): 1024 * int(size) for name, size, *_ in lines}
        return min(sizes["MemAvailable"] + sizes["SwapFree"], _left_to_group())
    except (OSError, LookupError, ValueError):
        return None


def _left_to_group() -> float:
    """What the limits of the control groups leave, of version 1 or 2."""
    left = math.inf
    if not OWN_CGROUPS.exists():
        return left
    for line in OWN_CGROUPS.read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root = CGROUPS / ("memory" if controllers else "")
        names = ("limit_in_bytes", "usage_in_bytes") if controllers else ("max", "current")
        group = root / path.lstrip("/")
        # In a container the path may be that outside of it; then the root's own files are those of the container.
        for folder in (group, *group.parents):
            if not folder.is_relative_to(root):
                break
            left = min(left, _left_to(folder, *names))
    return left


def _left_to(folder: Path, limit: str, usage: str) -> float:
    try:
        most, used = ((folder / f"memory.{name}").read_text(encoding="utf-8").strip() for name in (limit, usage))
        lines = (folder / "memory.stat").read_text(encoding="utf-8").splitlines()
    except OSError:
        return math.inf
    # Files that are cached give way.
    stat = {name: int(size) for name, size in map(str.split, lines)}
    cached = stat.get("total_inactive_file", stat.get("inactive_file", 0))
    return math.inf if most == "max" else int(most) - int(used) + cached


def require_memory(images: int, bytes_each: int, flag: str) -> None:
    """Refuse a batch that does not fit into the memory of a machine without GPUs.

    Args:
        images: how many are computed at once.
        bytes_each: what one of them needs at least.
        flag: the option that decides how many.

    Raises:
        UserError: if they need more than there is; it says how many fit.
    """
    free = available_memory()
    if free is None or images * bytes_each <= free or has_gpus():
        return
    fit = int(free / (SURELY * bytes_each))
    advice = f"give {flag} {fit}" if fit else "close other programs, or take a smaller model"
    raise UserError(
        f"{flag}: expected about {fit} images at once, as {free / GIB:.1f} GiB of memory are free, got {images}, "
        f"which need more than {images * bytes_each / GIB:.1f} GiB: {advice}"
    )


# The least that one image needs, in float32 where nothing is said: half to four fifths of what was measured of the
# bundled models, so that nothing is refused that fits.


def bytes_to_draw(config: ImageGPTConfig, guided: bool = False, n_given: int = 0, dtype: str = "float32") -> int:
    """The keys and values of all layers, and what predicts the tokens that are given first; twice for guidance."""
    cache = BYTES[dtype] * 2 * config.n_layer * config.n_tokens * config.n_embd
    return (2 if guided else 1) * (cache + FLOAT * _attention(config, n_given))


def bytes_to_predict(config: ImageGPTConfig) -> int:
    """The scores of attention in one layer and their softmax, and the states around them; or the logits and theirs."""
    return FLOAT * max(_attention(config, config.n_tokens), 2 * config.n_tokens * config.n_vocab)


def bytes_to_train(config: ImageGPTConfig, item: int = FLOAT, remat: bool = False) -> int:
    """What the gradients need of all layers: shares of attention and states; of one with `remat`."""
    seen = config.n_tokens * (config.n_tokens if config.bert else config.n_tokens // 2)
    layer = config.n_head * seen + 16 * config.n_tokens * config.n_embd
    return item * (layer if remat else config.n_layer * layer) + FLOAT * config.n_tokens * config.n_vocab


def _attention(config: ImageGPTConfig, n_tokens: int) -> int:
    """Scores of attention that are computed at once, their softmax, and the states around them."""
    queries = n_tokens if config.bert else min(QUERY_CHUNK, n_tokens)
    return 2 * config.n_head * queries * n_tokens + 8 * n_tokens * config.n_embd
