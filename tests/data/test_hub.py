"""The way from a hub to pictures: a small imitation of the Hugging Face hub's answers, asked by the real libraries."""

import hashlib
import http.server
import json
import re
import threading

import pytest

from examples import run_python

datasets = pytest.importorskip("datasets", reason="needs the extra hf-datasets", exc_type=ImportError)

COMMIT = "b" * 40
CARD = """---
license: cc-by-4.0
dataset_info:
  features:
  - {{name: image, dtype: image}}
  - {{name: label, dtype: {{class_label: {{names: {{'0': cat, '1': dog}}}}}}}}
  splits:
  - {{name: train, num_bytes: 1000, num_examples: 4}}
  download_size: {size}
  dataset_size: 1000
configs:
- {{config_name: default, data_files: [{{split: train, path: data/train-*}}]}}
---
"""


class Hub(http.server.ThreadingHTTPServer):
    """Answers for the data sets in `files`: name to path to content; `fetched` are the files that were read."""

    def __init__(self, files):
        self.files, self.fetched = files, []
        super().__init__(("127.0.0.1", 0), Answers)


class Answers(http.server.BaseHTTPRequestHandler):
    """What the hub says of its data sets and their files."""

    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_):
        pass

    def answer(self, found, code=200, **headers):
        body = found if isinstance(found, bytes) else json.dumps(found).encode()
        self.send_response(code)
        for name, value in {**headers, "X-Repo-Commit": COMMIT, "Content-Length": len(body)}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        asked = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        place = re.match(r"(/api)?/datasets/([\w-]+/[\w-]+)/?([\w-]*)/?(?:[\w-]*)/?([^?]*)", self.path)
        files = self.server.files.get(place[2]) if place else None
        if files is None:
            return self.answer({}, 401, X_Error_Code="RepoNotFound")
        about = [
            {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
            for path, data in files.items()
        ]
        if place[1] and place[3] == "tree":
            # A listing of one folder, or of all below it.
            inside = [one for one in about if one["path"].rpartition("/")[0] == place[4]]
            folders = {path.partition("/")[0] for path in files if "/" in path} if not place[4] else ()
            inside += [{"type": "directory", "path": path, "oid": COMMIT} for path in folders]
            return self.answer(about if "recursive=true" in self.path.lower() else inside)
        if place[1] and place[3] == "paths-info":
            return self.answer(
                [one for one in about if one["path"] in asked or one["path"].replace("/", "%2F") in asked]
            )
        if place[1]:
            siblings = [{"rfilename": one["path"], "size": one["size"]} for one in about]
            return self.answer(
                {"id": place[2], "sha": COMMIT, "cardData": {"license": "cc-by-4.0"}, "siblings": siblings}
            )
        if place[3] == "resolve" and place[4] in files:
            if self.command == "GET":
                self.server.fetched.append(place[4])
            return self.answer(files[place[4]], ETag=f'"{hashlib.sha1(files[place[4]]).hexdigest()}"')
        return self.answer({}, 404, X_Error_Code="EntryNotFound")

    do_HEAD = do_POST = do_GET  # noqa: N815


@pytest.fixture
def hub(tmp_path):
    """A hub of `owner/pets`, four pictures, and `owner/code`, a script alone."""
    cells = [{"bytes": b"P6 1 1 255 " + bytes([i, 0, 9]), "path": None} for i in range(4)]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    data = datasets.Dataset.from_dict({"image": cells, "label": [0, 1, 0, 1]}, features=features)
    data.to_parquet(tmp_path / "pets.parquet")
    parquet = (tmp_path / "pets.parquet").read_bytes()
    script = f"open({str(tmp_path / 'ran')!r}, 'w').close()"
    card = CARD.format(size=len(parquet)).encode()
    files = {
        "owner/pets": {"README.md": card, "data/train-00000-of-00001.parquet": parquet},
        "owner/code": {"README.md": b"---\nlicense: mit\n---\n", "code.py": script.encode()},
    }
    server = Hub(files)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def fit(hub, tmp_path):
    """Run `palette fit` on a source, in a process of its own: exit code, standard output, standard error."""

    def run(source, *options, **more):
        code = "import sys; from igpt_tf.cli.main import main; sys.exit(main(sys.argv[1:]))"
        line = ["palette", "fit", "--data", source, "--n_px", 1, "--n_colors", 2, "--out", tmp_path / "palette.npy"]
        environment = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        address = f"http://127.0.0.1:{hub.server_address[1]}"
        done = run_python(code, *line, *options, **{"HF_ENDPOINT": address, **environment, **more})
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.mark.slow
def test_a_data_set_is_downloaded_once_and_after_a_yes(hub, fit):
    code, _, err = fit("hf:owner/pets")
    assert code == 1 and re.search(r"hf:owner/pets: 4 examples, [\d.]+ kB to download, licence cc-by-4.0\n", err)
    assert err.splitlines()[-1].endswith("got none: download it with --yes") and set(hub.fetched) <= {"README.md"}
    code, out, err = fit("hf:owner/pets", "--yes", "--json")
    assert code == 0 and json.loads(out)["images"] == 4, err
    assert "licence cc-by-4.0" in err and hub.fetched.count("data/train-00000-of-00001.parquet") == 1
    assert fit("hf:owner/pets:train", "--quiet")[::2] == (0, "")
    assert hub.fetched.count("data/train-00000-of-00001.parquet") == 1
    code, out, _ = fit("hf:owner/pets", HF_HUB_OFFLINE="1")
    assert code == 0 and "2 colours" in out
    code, _, err = fit("hf:owner/pets:test")
    assert code == 1 and err.endswith("hf:owner/pets: expected one of the splits train, got 'test'\n")


@pytest.mark.slow
def test_code_of_the_hub_is_never_run(hub, fit, tmp_path):
    code, _, err = fit("hf:owner/code", "--yes")
    assert code == 1 and err.count("\n") == 1 and "expected a data set of the Hugging Face hub or a folder, got" in err
    assert "scripts are no longer supported, but found code.py" in err and not (tmp_path / "ran").exists()
    code, _, err = fit("hf:owner/none", "--yes")
    assert code == 1 and err.count("\n") == 1 and "doesn't exist on the Hub" in err
