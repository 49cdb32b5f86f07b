"""OpenAI's published files: their names and places.

The scheme of the addresses is that of `download.py` in https://github.com/openai/image-gpt.
"""

from pathlib import Path

from igpt_tf.download.batch import RemoteFile

BASE_URL = "https://openaipublic.blob.core.windows.net/image-gpt"
SHARDS = {"s": 32, "m": 32, "l": 64}
STEPS = (131000, 262000, 524000, 1000000)
DATASETS = ("imagenet", "cifar10")
SPLITS = ("trX", "trY", "vaX", "vaY", "teX", "teY")
CHECKPOINTS = Path("checkpoints")


def checkpoint_prefix(size: str, step: int = STEPS[-1], bert: bool = False, folder: Path | None = None) -> Path:
    """Return what TensorFlow calls the checkpoint: the common start of the names of its files."""
    return (folder or CHECKPOINTS / _model_name(size, bert)) / f"model.ckpt-{step}"


def checkpoint_files(
    size: str, step: int = STEPS[-1], bert: bool = False, folder: Path | None = None
) -> list[RemoteFile]:
    """Return the files of a checkpoint, flat in `folder` or, without one, in `checkpoints/igpt-s` and the like.

    Source: `main` in OpenAI's download.py; the name of the BERT models is `igpt-s-bert` and the like.
    """
    prefix = checkpoint_prefix(size, step, bert, folder)
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


def palette_file(folder: Path | None = None) -> RemoteFile:
    """Return the file with the 512 colours (source: `main` in OpenAI's download.py)."""
    return RemoteFile("color-clusters/kmeans_centers.npy", (folder or CHECKPOINTS) / "kmeans_centers.npy")


def dataset_files(name: str, folder: Path | None = None) -> list[RemoteFile]:
    """Return the files of a data set as tokens, X, and labels, Y (source: `main` in OpenAI's download.py)."""
    names = [f"{name}_{split}.npy" for split in SPLITS]
    return [RemoteFile(f"datasets/{name}", (folder or CHECKPOINTS / "datasets") / name) for name in names]


def _model_name(size: str, bert: bool) -> str:
    return f"igpt-{size}{'-bert' if bert else ''}"
