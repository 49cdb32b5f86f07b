"""Sources: what is found where, with which labels, and one line for everything that is not what it should be."""

import dataclasses
import gzip
import hashlib
import io
import json
import pickle
import tarfile

import imageio.v3 as imageio
import numpy as np
import pytest
from http_server import Remote, serving

from examples import one_line_error, random_image
from igpt_tf.data.open import open_data, read_tokens
from igpt_tf.data.sources import named
from igpt_tf.data.sources.listing import number
from igpt_tf.data.sources.open import open_source
from igpt_tf.data.store.encode import Encoder
from igpt_tf.errors import Notice, SkippedWarning, UserError
from igpt_tf.pictures.palette import Palette

PALETTE = Palette(np.random.default_rng(0).uniform(-1, 1, (20, 3)))


def all_pictures(source, n_px=8):
    examples = np.arange(len(source))
    return Encoder(n_px)(examples, source.part(examples)).rows


@pytest.fixture
def folder(tmp_path):
    """Two classes, a of two pictures and b of one."""
    folder = tmp_path / "pictures"
    for place, image in zip(("a/0.png", "a/deep/1.png", "b/0.png"), random_image(3, 8, 8, 3), strict=True):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        imageio.imwrite(folder / place, image)
    return folder


def test_subfolders_are_classes(folder):
    source = open_source(folder)
    assert source.labels.tolist() == [0, 0, 1] and source.classes == ("a", "b")
    np.testing.assert_array_equal(all_pictures(source), random_image(3, 8, 8, 3))
    assert open_source(folder / "a").labels is None
    assert open_source(folder / "b" / "0.png").labels is None


def test_a_list_names_its_pictures(folder):
    (folder / "list.txt").write_text("b/0.png\n\na/0.png\n")
    source = open_source(folder / "list.txt")
    assert source.labels is None
    np.testing.assert_array_equal(all_pictures(source), random_image(3, 8, 8, 3)[[2, 0]])
    (folder / "list.csv").write_text('path,label\n"b/0.png",dog\na/0.png,cat, \n'.replace(", \n", "\n"))
    source = open_source(str(folder / "list.csv"))
    assert source.labels.tolist() == [1, 0] and source.classes == ("cat", "dog")
    (folder / "list.csv").write_text(f"{folder}/b/0.png,7\na/0.png,10\n")
    source = open_source(folder / "list.csv")
    assert source.labels.tolist() == [7, 10] and source.classes is None
    np.testing.assert_array_equal(all_pictures(source), random_image(3, 8, 8, 3)[[2, 0]])


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "got none"),
        ("path,label\n", "got none"),
        ("a.png,1\nb.png\n", "list.csv, line 2: expected a path and a label, got 'b.png': correct"),
        ("\na.png,1\n,2\n", "list.csv, line 3: expected a path and a label, got ',2'"),
        ("path,label\na.png,1,2\n", "list.csv, line 2: expected `path` or `path,label`, got 'a.png,1,2'"),
    ],
)
def test_lists_that_are_none(tmp_path, text, match):
    (tmp_path / "list.csv").write_text(text)
    one_line_error(open_source, tmp_path / "list.csv", match=match)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("heading", ["file_name,label", "image_path,label", "id,label", "Bild,Klasse", ""])
def test_a_table_may_have_any_heading_and_delimiter(folder, delimiter, heading):
    lines = (
        [heading, "b/0.png,dog", "", '"a/0.png", "cat, or so"']
        if heading
        else ["b/0.png,dog", '"a/0.png","cat, or so"']
    )
    text = "\n".join(line if "or so" in line else line.replace(",", delimiter) for line in lines)
    text = text.replace('", "', f'"{delimiter}"').replace('","', f'"{delimiter}"')
    for name in ("list.csv", "list.tsv"):
        (folder / name).write_text(f"\ufeff{text}\n", encoding="utf-8")
        source = open_source(folder / name)
        assert source.labels.tolist() == [1, 0] and source.classes == ("cat, or so", "dog")
        np.testing.assert_array_equal(all_pictures(source), random_image(3, 8, 8, 3)[[2, 0]])


def test_the_first_picture_of_a_table_is_no_heading_though_it_is_missing(folder):
    (folder / "list.csv").write_text("b/9.png;dog\nb/0.png;dog\n")
    assert len(open_source(folder / "list.csv")) == 2


@pytest.mark.parametrize(
    ("labels", "numbers", "classes"),
    [
        ("210", [2, 1, 0], None),
        (["10", "1", "2"], [10, 1, 2], None),
        (["01", "1", "2"], [0, 1, 2], ("01", "1", "2")),
        (["010", "9"], [1, 0], ("9", "010")),
        (["2024-01-02", "2023-12-31"], [1, 0], ("2023-12-31", "2024-01-02")),
        (["20240102", "20231231"], [20240102, 20231231], None),
        (["99999999999", "1"], [1, 0], ("1", "99999999999")),
        (["1.5", "-1"], [1, 0], ("-1", "1.5")),
    ],
)
def test_labels_of_text_are_numbered(labels, numbers, classes):
    found, names = number(labels)
    assert (found.tolist(), names, found.dtype) == (numbers, classes, np.int32)


@pytest.mark.parametrize(
    ("labels", "numbers", "classes"),
    [
        ([["cat"], ["dog"], ["cat"]], [0, 1, 0], ("cat", "dog")),
        ([[0, 1], [1, 0], [0, 1]], [1, 0, 1], None),
        ([[3], [1], [3]], [3, 1, 3], None),
        ([[], [], []], None, None),
    ],
)
def test_a_database_of_pictures(folder, labels, numbers, classes):
    names = ["a/1.png", "b/2.png", "a/3.png"]
    rows = {
        str(i): {"image_fpath": name, "labels": label}
        for i, (name, label) in enumerate(zip(names, labels, strict=True), 1)
    }
    (folder / "dataset.json").write_text(json.dumps({"_default": rows}))
    source = open_source(folder / "dataset.json")
    assert source.items == [folder / name for name in names] and source.classes == classes
    assert (None if source.labels is None else source.labels.tolist()) == numbers


def test_a_database_without_a_class_for_each_picture(tmp_path):
    rows = {"1": {"image_fpath": "a.png", "labels": [1, 1, 0]}, "2": {"image_fpath": "b.png", "labels": [0, 1, 0]}}
    (tmp_path / "dataset.json").write_text(json.dumps({"_default": rows}))
    with pytest.warns(Notice, match="labels are left out: 1 of 2 images have not one"):
        assert open_source(tmp_path / "dataset.json").labels is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"_default": {"1": {"path": "a"}}}', '{"_default": {}}', "[" * 9999])
def test_a_database_of_something_else(tmp_path, text):
    (tmp_path / "dataset.json").write_text(text)
    one_line_error(open_source, tmp_path / "dataset.json", match="image_fpath.*, got ")


def test_a_folder_wins_over_the_data_set_of_its_name(folder, tmp_path, monkeypatch, keras_cache):
    def fail(url, path):
        raise UserError("cannot reach the server")

    monkeypatch.setattr(named, "fetch_file", fail)
    monkeypatch.chdir(tmp_path)
    for name in named.NAMES:
        folder = folder.rename(tmp_path / name)
        with pytest.warns(Notice, match=f"{name}: reading the folder of this name, .*{name}, not the data set"):
            assert open_source(name).classes == ("a", "b")
        # A folder has no splits.
        one_line_error(open_source, f"{name}:test", match="cannot be downloaded")
        folder.joinpath("c").mkdir(exist_ok=True)
        with pytest.warns(SkippedWarning, match="skipped 1 of 3 classes, which have no images: c"):
            open_source(folder)
        (folder / "c").rmdir()


def test_an_empty_name_is_no_folder():
    one_line_error(open_source, "", match="got an empty one")


def test_a_list_that_is_no_text(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\x00")
    one_line_error(open_source, tmp_path / "list.txt", match="UTF-8")
    (tmp_path / "list.csv").write_bytes("a.png,Hund\nb.png,Bär\n".encode("latin-1"))
    one_line_error(open_source, tmp_path / "list.csv", match="UTF-8 text, got other bytes in line 2: save it")
    one_line_error(open_source, tmp_path / "none.txt", match="got nothing: check")


@pytest.mark.parametrize("shape", [(4, 8, 8, 3), (4, 8, 8, 1), (4, 8, 8), (4, 12, 16, 3)])
def test_arrays_of_pictures(tmp_path, shape):
    images = random_image(*shape)
    np.save(tmp_path / "images.npy", images)
    source = open_source(tmp_path / "images.npy")
    assert len(source) == 4 and not source.are_tokens
    pictures = all_pictures(source)
    assert pictures.shape == (4, 8, 8, 3) and pictures.dtype == np.uint8
    if shape[1] == 8:
        np.testing.assert_array_equal(
            pictures[..., 1], images.reshape(4, 8, 8, -1)[..., -2 % images.reshape(4, 8, 8, -1).shape[3]]
        )


def test_npz_as_keras_has_it(tmp_path):
    path = tmp_path / "mnist.npz"
    train, test = random_image(5, 28, 28), random_image(3, 28, 28, seed=1)
    np.savez(
        path, x_train=train, y_train=np.arange(5, dtype=np.uint8), x_test=test, y_test=np.arange(3, dtype=np.uint8)
    )
    for spec, images in ((path, train), (f"{path}:train", train), (f"{path}:test", test)):
        source = open_source(spec)
        np.testing.assert_array_equal(source.items, images)
        assert source.labels.tolist() == list(range(len(images))) and source.labels.dtype == np.int32
    source = open_source("mnist:test", path)
    np.testing.assert_array_equal(source.items, test)
    assert source.classes == tuple("0123456789")
    one_line_error(open_source, f"{path}:valid", match="x_valid, got x_train, y_train, x_test, y_test")


def test_npz_of_images_and_labels(tmp_path):
    one_hot = np.eye(4)[[2, 0, 3]]
    np.savez(tmp_path / "a.npz", images=random_image(3, 8, 8, 3), labels=one_hot)
    assert open_source(tmp_path / "a.npz").labels.tolist() == [2, 0, 3]
    np.savez(tmp_path / "b.npz", images=random_image(3, 8, 8, 3))
    assert open_source(tmp_path / "b.npz").labels is None


@pytest.mark.parametrize(
    "labels",
    [
        np.zeros(2, int),
        np.zeros((3, 2, 2)),
        np.array([0.5, 1, 2]),
        np.array([0, 1, np.nan]),
        np.array([0, -1, 2]),
        np.array(["a"] * 3),
        np.array(3),
    ],
)
def test_labels_that_do_not_fit(tmp_path, labels):
    np.savez(tmp_path / "a.npz", images=random_image(3, 8, 8, 3), labels=labels)
    one_line_error(open_source, tmp_path / "a.npz", match="expected 3 labels")


def test_openais_splits(tmp_path):
    tokens = np.random.default_rng(0).integers(0, 20, (6, 64))
    np.save(tmp_path / "c_trX.npy", tokens)
    np.save(tmp_path / "c_trY.npy", np.eye(10)[:6])
    np.save(tmp_path / "c_teX.npy", tokens[:2].reshape(2, 8, 8))
    train, test = open_source(tmp_path / "c"), open_source(f"{tmp_path / 'c'}:test")
    assert train.are_tokens and train.labels.tolist() == list(range(6)) and test.labels is None
    np.testing.assert_array_equal(read_tokens(open_data(f"{tmp_path / 'c'}:test"), 8, PALETTE), tokens[:2])
    one_line_error(
        open_source, f"{tmp_path / 'c'}:valid", match="c_vaX.npy: expected a NumPy .npy file of numbers, got nothing"
    )


@pytest.mark.parametrize(
    ("array", "match"),
    [
        (np.zeros((2, 8, 8, 3), np.float32), "got float32"),
        (np.zeros((2, 8, 8, 4), np.uint8), r"got uint8 \(2, 8, 8, 4\)"),
        (np.zeros((2, 3, 8, 8), np.uint8), r"got uint8 \(2, 3, 8, 8\)"),
        (np.zeros((0, 8, 8, 3), np.uint8), "at least one"),
        (np.zeros((5, 64), np.float32), "got float32"),
        (np.array(3), r"got int64 \(\)"),
    ],
)
def test_arrays_that_are_none(tmp_path, array, match):
    np.save(tmp_path / "a.npy", array)
    one_line_error(open_source, tmp_path / "a.npy", match=match)


def test_nothing_that_is_read_runs_code(tmp_path):
    trap = np.array([{"a": 1}], dtype=object)
    np.save(tmp_path / "a.npy", trap, allow_pickle=True)
    np.savez(tmp_path / "a.npz", x_train=trap, allow_pickle=True)
    (tmp_path / "b.npz").write_bytes(pickle.dumps([1]))
    for name in ("a.npy", "a.npz", "b.npz"):
        one_line_error(open_source, tmp_path / name, match="expected a NumPy")


def test_damaged_and_missing_files(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", x_train=random_image(50, 28, 28))
    data = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(data[: len(data) // 2])
    one_line_error(open_source, tmp_path / "a.npz", match="a.npz: expected a NumPy")
    np.save(tmp_path / "b.npy", random_image(2, 8, 8))
    (tmp_path / "b.npy").rename(tmp_path / "b.npz")
    one_line_error(open_source, tmp_path / "b.npz", match="b.npz: expected a NumPy")
    one_line_error(open_source, tmp_path / "c.npz", match="c.npz: expected a NumPy .npz file, got nothing")
    one_line_error(open_source, tmp_path / "c", match="got nothing: check")
    (tmp_path / "empty").mkdir()
    one_line_error(open_source, tmp_path / "empty", match="got none: put")
    one_line_error(open_source, f"{tmp_path / 'empty'}:test", match="expected a source without splits, got :test")
    one_line_error(open_source, tmp_path / "empty", tmp_path / "c", match="expected a local copy of one of mnist")


def test_fingerprints_tell_sources_apart(folder, tmp_path):
    prints = {open_source(folder).fingerprint(), open_source(folder / "a").fingerprint()}
    assert open_source(folder).fingerprint() in prints
    for seed, labels in ((0, None), (1, None), (1, np.arange(3)), (1, np.zeros(3, int))):
        arrays = {"images": random_image(3, 8, 8, 3, seed=seed)} | ({} if labels is None else {"labels": labels})
        np.savez(tmp_path / "a.npz", **arrays)
        prints.add(open_source(tmp_path / "a.npz").fingerprint())
    assert len(prints) == 6


def cifar_files(n_labels, counts, seed=0):
    """Images, labels and the files of the binary version, records of labels and planes."""
    names = (
        [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
        if n_labels == 1
        else ["train.bin", "test.bin"]
    )
    rng = np.random.default_rng(seed)
    images, labels, files = {}, {}, {}
    for name, count in zip(names, counts, strict=True):
        images[name] = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        labels[name] = rng.integers(0, 10, (count, n_labels), dtype=np.uint8)
        planes = images[name].transpose(0, 3, 1, 2).reshape(count, -1)
        files[name] = np.hstack([labels[name], planes]).tobytes()
    files["batches.meta.txt" if n_labels == 1 else "fine_label_names.txt"] = ("\n".join("abcdefghij") + "\n\n").encode()
    return images, labels, files


def write_archive(path, files, folder="cifar-binary"):
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(("name", "n_labels", "counts"), [("cifar10", 1, (2, 3, 1, 2, 2, 4)), ("cifar100", 2, (5, 3))])
def test_the_binary_version_of_cifar(tmp_path, packed, name, n_labels, counts):
    images, labels, files = cifar_files(n_labels, counts)
    path = tmp_path / ("files" if not packed else "cifar.tar.gz")
    if packed:
        write_archive(path, files)
    else:
        path.mkdir()
        for file, data in files.items():
            (path / file).write_bytes(data)
    *training, test = images
    for spec, parts in ((name, training), (f"{name}:test", [test])):
        source = open_source(spec, path)
        np.testing.assert_array_equal(source.items, np.concatenate([images[part] for part in parts]))
        np.testing.assert_array_equal(source.labels, np.concatenate([labels[part][:, -1] for part in parts]))
        assert source.classes == tuple("abcdefghij")


def test_what_is_not_cifar(tmp_path):
    _, _, files = cifar_files(1, (1,) * 6)
    python, binary = tmp_path / "cifar-10-python.tar.gz", tmp_path / "cifar-10-binary.tar.gz"
    write_archive(python, {"data_batch_1": pickle.dumps({b"data": 1})}, "cifar-10-batches-py")
    one_line_error(open_source, "cifar10", python, match="Python version: pickles, never read .*cifar-10-binary.tar.gz")
    write_archive(binary, files | {"data_batch_3.bin": b"123"})
    one_line_error(open_source, "cifar10", binary, match="records of 3073 bytes")
    binary.write_bytes(binary.read_bytes()[:200])
    one_line_error(open_source, "cifar10", binary, match="get it again")
    one_line_error(open_source, "cifar10", tmp_path / "none", match="expected an archive or a folder, got nothing")
    one_line_error(open_source, "cifar10", tmp_path, match="data_batch_1.bin, got none")


@pytest.mark.parametrize("packed", [True, False])
def test_mnists_own_files(tmp_path, packed):
    images, labels = random_image(6, 28, 20), np.arange(6, dtype=np.uint8)
    heading = np.array([2051, 6, 28, 20], ">u4").tobytes(), np.array([2049, 6], ">u4").tobytes()
    for name, data in (
        ("train-images-idx3-ubyte", heading[0] + images.tobytes()),
        ("train-labels-idx1-ubyte", heading[1] + labels.tobytes()),
    ):
        (tmp_path / f"{name}{'.gz' if packed else ''}").write_bytes(gzip.compress(data) if packed else data)
    source = open_source("fashion_mnist", tmp_path)
    np.testing.assert_array_equal(source.items, images)
    assert source.labels.tolist() == list(range(6)) and source.classes[9] == "ankle boot"
    one_line_error(open_source, "fashion_mnist:test", tmp_path, match="t10k-images-idx3-ubyte.gz, got none")
    file = next(tmp_path.glob("train-images*"))
    file.write_bytes(file.read_bytes()[:-100])
    one_line_error(open_source, "mnist", tmp_path, match="again")


@pytest.fixture
def keras_cache(monkeypatch, tmp_path):
    """An empty cache of data sets."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    return tmp_path / "keras/datasets"


def test_data_sets_are_downloaded_once_into_the_cache_of_keras(monkeypatch, tmp_path, capsys, keras_cache):
    _, _, files = cifar_files(1, (1,) * 6)
    write_archive(tmp_path / "cifar.tar.gz", files)
    archive = (tmp_path / "cifar.tar.gz").read_bytes()
    np.savez(tmp_path / "mnist.npz", x_train=random_image(4, 28, 28), y_train=np.arange(4, dtype=np.uint8))
    mnist = (tmp_path / "mnist.npz").read_bytes()
    cifar = dataclasses.replace(named.CIFARS["cifar10"], md5=hashlib.md5(archive).hexdigest())
    monkeypatch.setitem(named.CIFARS, "cifar10", cifar)
    monkeypatch.setattr(named, "MNIST_SHA256", hashlib.sha256(mnist).hexdigest())
    with serving() as server:
        monkeypatch.setattr(named, "CIFAR_FILES", server.url)
        monkeypatch.setattr(named, "KERAS_FILES", server.url)
        server.files["/cifar-10-binary.tar.gz"] = Remote(archive)
        server.files["/mnist.npz"] = Remote(mnist)
        assert len(open_source("cifar10")) == 5 and len(open_source("mnist")) == 4
        assert (keras_cache / "cifar-10-binary.tar.gz").read_bytes() == archive
        n_requests = len(server.gets())
        assert len(open_source("cifar10:test")) == 1
        assert len(server.gets()) == n_requests
        # A file that Keras left unfinished is fetched again.
        (keras_cache / "mnist.npz").write_bytes(mnist[:100])
        assert len(open_source("mnist")) == 4
        server.files["/cifar-10-binary.tar.gz"] = Remote(archive[:-1])
        (keras_cache / "cifar-10-binary.tar.gz").unlink()
        one_line_error(open_source, "cifar10", match="expected a file of digest .*, got another: fetch it elsewhere")
    # Results alone go to standard output.
    assert capsys.readouterr().out == ""


def test_fashion_mnist_is_downloaded_file_by_file(monkeypatch, keras_cache):
    images = np.array([2051, 6, 28, 28], ">u4").tobytes() + random_image(6, 28, 28).tobytes()
    labels = np.array([2049, 6], ">u4").tobytes() + bytes(6)
    with serving() as server:
        monkeypatch.setattr(named, "KERAS_FILES", server.url)
        for name, data in (("images-idx3", images), ("labels-idx1", labels)):
            server.files[f"/t10k-{name}-ubyte.gz"] = Remote(gzip.compress(data))
        assert len(open_source("fashion_mnist:test")) == 6
    assert (keras_cache / "fashion-mnist/t10k-images-idx3-ubyte.gz").exists()


@pytest.mark.parametrize("name", named.NAMES)
def test_without_a_network_the_line_says_what_to_fetch(monkeypatch, name, keras_cache):
    def fail(url, path):
        raise UserError("cannot reach the server")

    monkeypatch.setattr(named, "fetch_file", fail)
    one_line_error(open_source, name, match=r"cannot be downloaded \(cannot reach.*fetch https://.* elsewhere")
    one_line_error(open_source, f"{name}:valid", match="split train or test, got 'valid'")


def test_pictures_become_tokens(folder):
    np.testing.assert_array_equal(
        read_tokens(open_data(folder), 8, PALETTE), PALETTE.quantize(random_image(3, 8, 8, 3))
    )
    one_line_error(read_tokens, open_data(folder), 8, None, match="expected a palette to turn images into tokens")
    (folder / "a" / "bad.png").write_bytes(b"nonsense")
    one_line_error(read_tokens, open_data(folder), 8, PALETTE, match="bad.png")
