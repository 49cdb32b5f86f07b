"""A record is read back as it was written, or it is said what is wrong with it."""

import pytest

from igpt_tf.errors import UserError
from igpt_tf.storage.records import RecordError, read_record, write_record

RECORD = {"name": "café", "count": 3, "done": True, "sizes": {"a": 1}, "classes": None}
FIELDS = {"name": str, "count": int, "done": bool, "sizes": dict}


def test_a_record_comes_back(tmp_path):
    path = tmp_path / "new" / "record.json"
    write_record(path, RECORD)
    assert read_record(path, FIELDS) == RECORD
    write_record(path, RECORD | {"count": 4})
    assert read_record(path, FIELDS)["count"] == 4
    assert [one.name for one in path.parent.iterdir()] == ["record.json"]


def test_no_file_is_no_record(tmp_path):
    assert read_record(tmp_path / "none.json", FIELDS) is None


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "Expecting value"),
        (b'{"name": "x"', "delimiter"),
        (b"\xff\xfe\x00", "decode|Expecting"),
        (b"[" * 100_000, "recursion"),
        (b"[1, 2]", "expected a JSON object, got list"),
        (b'{"name": "x"}', "count is missing"),
        (b'{"name": "x", "count": true}', "expected count as int, got bool"),
        (b'{"name": "x", "count": 3.0}', "expected count as int, got float"),
        (b'{"name": null}', "expected name as str, got NoneType"),
    ],
)
def test_what_is_no_record_is_one_line(tmp_path, data, match):
    (tmp_path / "record.json").write_bytes(data)
    with pytest.raises(RecordError, match=match) as caught:
        read_record(tmp_path / "record.json", FIELDS)
    assert "\n" not in str(caught.value)


def test_a_folder_is_no_record(tmp_path):
    with pytest.raises(RecordError, match=r"directory|denied"):
        read_record(tmp_path, FIELDS)


def test_a_record_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "record.json"
    write_record(path, RECORD)
    with pytest.raises(TypeError):
        write_record(path, {"x": object()})
    assert read_record(path, FIELDS) == RECORD
    with pytest.raises(UserError, match="cannot write"):
        write_record(path / "below.json", RECORD)
