"""The door for stored files: data of the stated type, or one sentence."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typing_extensions import TypedDict

from bench.core import schema
from bench.core.errors import UserError


class Thing(TypedDict):
    name: str
    sizes: list[int]


def test_a_value_of_the_type_comes_through(tmp_path: Path) -> None:
    path = tmp_path / "thing.json"
    path.write_text('{"name": "é", "sizes": [1, 2]}')
    assert schema.read_json(path, Thing, "mend it") == {"name": "é", "sizes": [1, 2]}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (b"", "cannot be read"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"[1, 2]", "is damaged .input should be a valid dictionary"),
        (b'{"name": 7, "sizes": []}', "name: input should be a valid string"),
        (b'{"name": "a", "sizes": ["1"]}', r"sizes\.0: input should be a valid integer"),
        (b'{"name": "a"}', "sizes: field required"),
        (b'{"name": "a", "sizes": [NaN]}', "NaN is no number"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a":' * 200_000, "nested too deeply"),
        (b"9" * 10_000, "cannot be read"),
    ],
)
def test_anything_else_is_a_sentence_with_path_and_cure(tmp_path: Path, text: bytes, what: str) -> None:
    path = tmp_path / "thing.json"
    path.write_bytes(text)
    with pytest.raises(UserError, match=what) as caught:
        schema.read_json(path, Thing, "mend it")
    assert str(path) in str(caught.value)
    assert str(caught.value).endswith("; mend it")


def test_what_could_block_or_is_no_file_is_never_opened(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path in (fifo, tmp_path, Path("/dev/zero")):
        with pytest.raises(UserError, match="is no regular file"):
            schema.read_json(path, dict[str, Any], "mend it")
    with pytest.raises(UserError, match="cannot be read"):
        schema.read_json(Path("nul\0"), dict[str, Any], "mend it")


def test_a_huge_sparse_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.json"
    with path.open("wb") as file:
        file.truncate(schema.MOST_TEXT + 1)
    with pytest.raises(UserError, match="more than"):
        schema.read_json(path, dict[str, Any], "mend it")


def test_deep_toml_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "deep.toml"
    path.write_text("a = " + "[" * 100_000)
    with pytest.raises(UserError, match=r"nested too deeply|not valid TOML"):
        schema.read_toml(path, dict[str, Any], "mend it")


def _npz(path: Path, member: bytes, compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("a.npy", member)


def _npy(array: np.ndarray[Any, Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def test_arrays_of_numbers_come_back_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "arrays.npz"
    np.savez(path, a=np.arange(3), b=np.ones((2, 2), np.float32))
    assert {name: array.tolist() for name, array in schema.read_arrays(path, "mend it").items()} == {
        "a": [0, 1, 2], "b": [[1.0, 1.0], [1.0, 1.0]]
    }  # fmt: skip
    _npz(path, _npy(np.array([{"a": 1}], dtype=object)))
    with pytest.raises(UserError, match="Object arrays cannot be loaded"):
        schema.read_arrays(path, "mend it")
    _npz(path, _npy(np.array(["text"])))
    with pytest.raises(UserError, match="no array of numbers"):
        schema.read_arrays(path, "mend it")


def test_an_array_that_claims_more_than_the_file_holds_or_unfolds_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "arrays.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**15,)})
    _npz(path, header.getvalue())
    with pytest.raises(UserError, match="cannot be read"):
        schema.read_arrays(path, "mend it")
    _npz(path, _npy(np.zeros(10**6)), zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match="compressed members"):
        schema.read_arrays(path, "mend it")
    path.write_bytes(b"PK\3\4 and no more")
    with pytest.raises(UserError, match="cannot be read"):
        schema.read_arrays(path, "mend it")


def test_a_mapped_array_is_of_the_kind_and_the_length_that_it_says(tmp_path: Path) -> None:
    path = tmp_path / "array.npy"
    path.write_bytes(_npy(np.arange(6, dtype=np.float32).reshape(2, 3)))
    assert schema.mapped_array(path, "mend it").tolist() == [[0, 1, 2], [3, 4, 5]]
    for data in (_npy(np.arange(6))[:-1], _npy(np.array([{}], dtype=object)), b"", b"PK\3\4", _npy(np.array(["text"]))):
        path.write_bytes(data)
        with pytest.raises(UserError, match=r"; mend it$"):
            schema.mapped_array(path, "mend it")
    assert schema.mapped_array(path, "mend it", "U").tolist() == ["text"]


def test_a_table_names_each_column_once(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    pq.write_table(pa.table([pa.array([1]), pa.array([2])], names=["label", "label"]), path)
    with pytest.raises(UserError, match=r"has two columns of one name; mend it$"):
        schema.read_table(path, "mend it")


def test_json_of_a_message_is_held_to_its_type_too() -> None:
    assert schema.parsed_json("the message", '{"a": 1}', dict[str, int], "mend it") == {"a": 1}
    for text in ('{"a": "1"}', "[", "[" * 100_000, '{"a": NaN}'):
        with pytest.raises(UserError, match=r"^the message .*; mend it$"):
            schema.parsed_json("the message", text, dict[str, int], "mend it")


def test_links_may_stay_inside_and_not_lead_out(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "a.json").write_text(json.dumps({}))
    (folder / "b.json").symlink_to("a.json")
    schema.refuse_links_out(folder, "remove it")
    (folder / "c.json").symlink_to("../elsewhere")
    with pytest.raises(UserError, match=r"c\.json is a symbolic link that leads out"):
        schema.refuse_links_out(folder, "remove it")
