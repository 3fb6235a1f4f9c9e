import json

import pytest

from rlcap.errors import BagError, InputError
from rlcap.io.text import (
    LineError,
    iter_json_lines,
    make_encodable,
    make_json_encodable,
    parse_json,
    read_json,
    read_lines,
    read_log,
    read_text,
)


def write(tmp_path, data):
    path = tmp_path / "file"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x0b", "\x0c", "\x1c", "\x85", "\r"])
def test_a_line_ends_at_the_newline_alone(tmp_path, separator):
    row = {"caption": f"a{separator}b"}
    path = write(tmp_path, json.dumps(row, ensure_ascii=False).replace("\\r", " ").encode() + b"\n")
    assert [number for number, _ in iter_json_lines(path)] == [1]
    if separator != "\r":
        raw = json.loads(f'"a{separator}b"', strict=False)
        path = write(tmp_path, f'{{"caption": {json.dumps(raw, ensure_ascii=False)}}}\n'.encode())
        assert [value["caption"] for _, value in iter_json_lines(path)] == [raw]


def test_read_lines_splits_at_newlines_and_drops_carriage_returns(tmp_path):
    assert read_lines(write(tmp_path, "a\u2028b\r\n\nc\n".encode())) == ["a\u2028b", "", "c"]
    assert read_lines(write(tmp_path, b"")) == []
    assert read_lines(write(tmp_path, b"no newline")) == ["no newline"]


def test_a_byte_order_mark_is_dropped(tmp_path):
    path = write(tmp_path, b"\xef\xbb\xbf" + b'{"a": 1}\n{"a": 2}\n')
    assert [value for _, value in iter_json_lines(path)] == [{"a": 1}, {"a": 2}]
    assert read_json(write(tmp_path, b"\xef\xbb\xbf[1]")) == [1]
    assert read_text(write(tmp_path, b"\xef\xbb\xbfx")) == "x"


def test_a_bad_line_is_reported_and_the_others_are_read(tmp_path):
    values = dict(iter_json_lines(write(tmp_path, b'{"a": 1}\n\n{"a": \xff}\n{"a"\n[' + b"[" * 100_000 + b"\n2\n")))
    assert values[1] == {"a": 1}
    assert isinstance(values[3], LineError)
    assert values[3].reason == "not UTF-8"
    assert isinstance(values[4], LineError)
    assert values[4].reason == "not JSON"
    assert isinstance(values[5], LineError)
    assert "nested too deeply" in str(values[5])
    assert values[6] == 2


def test_lone_surrogates_are_replaced_where_they_enter():
    assert make_encodable("a\ud800b") == "a\ufffdb"
    assert make_encodable("é") == "é"
    assert parse_json(r'{"k\ud800": ["x\uDFFF", 1, null]}') == {"k\ufffd": ["x\ufffd", 1, None]}
    assert parse_json(r'"\ud83d\ude00"') == "😀"
    assert make_json_encodable({"a": ["\udc00"]}) == {"a": ["\ufffd"]}


def test_numbers_without_end_are_refused():
    with pytest.raises(ValueError, match="4300 digits"):
        parse_json("9" * 5000)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"blue \xe9\nx", "bag file .* is not UTF-8 .byte b'.xe9' in line 1.; save it as UTF-8"),
        (b"\n\xff", "in line 2"),
        (b"{", "bag file .* is not JSON"),
    ],
)
def test_errors_name_the_file_and_what_it_is(tmp_path, data, message):
    with pytest.raises(BagError, match=message):
        read_json(write(tmp_path, data), "bag file", BagError)


def test_missing_files_folders_and_impossible_paths(tmp_path):
    with pytest.raises(InputError, match=r"there is no config file .*nowhere; check the path"):
        read_text(tmp_path / "nowhere", "config file")
    with pytest.raises(InputError, match="can't be read: Is a directory"):
        read_text(tmp_path)
    with pytest.raises(InputError, match="can't be read"):
        read_text("a\0b")


def test_a_log_loses_only_an_incomplete_last_line(tmp_path):
    assert read_log(tmp_path / "none") == []
    assert read_log(write(tmp_path, b'{"step": 1}\n{"step": 2}\n{"st')) == [{"step": 1}, {"step": 2}]
    assert read_log(write(tmp_path, b'{"step": 1}\n\xff\xfe')) == [{"step": 1}]
    with pytest.raises(InputError, match="line 1 is not JSON"):
        read_log(write(tmp_path, b'{"st\n{"step": 2}\n'))
