"""OpenAI's published files: their names and places.

The scheme of the addresses is that of `download.py` in https://github.com/openai/image-gpt.
"""

from pathlib import Path

from igpt_tf.download import RemoteFile
from igpt_tf.storage.places import CHECKPOINTS

BASE_URL = "https://openaipublic.blob.core.windows.net/image-gpt"
SHARDS = {"s": 32, "m": 32, "l": 64}
STEPS = (131000, 262000, 524000, 1000000)
DATASETS = ("imagenet", "cifar10")
SPLITS = ("trX", "trY", "vaX", "vaY", "teX", "teY")


def checkpoint_prefix(
    size: str, step: int = STEPS[-1], bert: bool = False, folder: Path | None = None, root: Path = CHECKPOINTS
) -> Path:
    """Return what TensorFlow calls the checkpoint: the common start of the names of its files."""
    return (folder or root / _model_name(size, bert)) / f"model.ckpt-{step}"


def checkpoint_files(
    size: str, step: int = STEPS[-1], bert: bool = False, folder: Path | None = None, root: Path = CHECKPOINTS
) -> list[RemoteFile]:
    """Return the files of a checkpoint, flat in `folder` or, without one, in `igpt-s` and the like in `root`.

    Source: `main` in OpenAI's download.py; the name of the BERT models is `igpt-s-bert` and the like.
    """
    prefix = checkpoint_prefix(size, step, bert, folder, root)
    shards = SHARDS[size]
    endings = [f"data-{index:05d}-of-{shards:05d}" for index in range(shards)] + ["meta", "index"]
    return [
        RemoteFile(
            f"checkpoints/{_model_name(size, bert)}/{step}/{prefix.name}.{ending}",
            prefix.with_name(f"{prefix.name}.{ending}"),
            # Readers take a checkpoint that has an index for a whole one.
            last=ending == "index",
        )
        for ending in endings
    ]


def palette_file(folder: Path | None = None, root: Path = CHECKPOINTS) -> RemoteFile:
    """Return the file with the 512 colours (source: `main` in OpenAI's download.py)."""
    return RemoteFile("color-clusters/kmeans_centers.npy", (folder or root) / "kmeans_centers.npy")


def dataset_files(name: str, folder: Path | None = None, root: Path = CHECKPOINTS) -> list[RemoteFile]:
    """Return the files of a data set as tokens, X, and labels, Y (source: `main` in OpenAI's download.py)."""
    names = [f"{name}_{split}.npy" for split in SPLITS]
    return [RemoteFile(f"datasets/{name}", (folder or root / "datasets") / name) for name in names]


def _model_name(size: str, bert: bool) -> str:
    return f"igpt-{size}{'-bert' if bert else ''}"
