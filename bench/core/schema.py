"""The one door for stored files: regular files of bounded size, read as data and checked against what they should hold.

Whatever stands in a file (a stranger's, or one that a crash cut off), reading it ends in values of the stated types or
in a `UserError` that names the file, what is wrong with it and what to do. Nothing that is read here is executed.
"""

from __future__ import annotations

import json
import os
import stat
import tokenize
import tomllib
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from bench.core.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")
MOST_TEXT, MOST_ROWS, MOST_ARRAYS = 2**28, 50_000_000, 2**36
NUMBERS = "biuf"
"""The kinds of NumPy's that are numbers or truth values."""
Place = Path | str
_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}
# What zipfile and NumPy raise for bytes that are no archive or no array; MemoryError for one that claims to be endless.
DAMAGED = (
    OSError, ValueError, KeyError, EOFError, SyntaxError, TypeError, MemoryError, OverflowError, RuntimeError,
    zipfile.BadZipFile, zlib.error, tokenize.TokenError,
)  # fmt: skip


def read_json(path: Path, schema: type[T], mend: str) -> T:
    """A JSON file as a value of a type (a dataclass, a TypedDict, `dict[str, float]`, ...), NaN refused.

    Args:
        path: a regular file of at most `MOST_TEXT` bytes.
        schema: the type that the value must have.
        mend: what to do about a file that will not do, as the end of a sentence ("delete it and run again").

    Raises:
        UserError: no regular file, longer than `MOST_TEXT` bytes, no JSON, nested too deeply, or of another type.
    """
    return parsed_json(path, read_bytes(path, mend), schema, mend)


def parsed_json(place: Place, text: bytes | str, schema: type[T], mend: str, nan: bool = False) -> T:
    """JSON that did not come by itself in a file (a message's, a header's), as a value of a type.

    Args:
        place: where it came from, the beginning of a sentence.
        text: the JSON.
        schema: the type.
        mend: what to do about it, the sentence's end.
        nan: whether NaN and infinity may stand where the type lets them.

    Raises:
        UserError: no JSON, nested too deeply, or of another type.
    """
    try:
        value = json.loads(text, parse_constant=None if nan else _no_number)
    except RecursionError:
        _refuse(place, "is nested too deeply", mend)
    except ValueError as error:
        _refuse(place, f"cannot be read ({error})", mend)
    return validated(place, value, schema, mend)


def read_toml(path: Path, schema: type[T], mend: str) -> T:
    """A TOML file as a value of a type. Raises UserError as `read_json` does.

    Args:
        path, schema, mend: as of `read_json`.
    """
    try:
        value = tomllib.loads(read_bytes(path, mend).decode())
    except RecursionError:
        _refuse(path, "is nested too deeply", mend)
    except UnicodeDecodeError as error:
        _refuse(path, f"cannot be read ({error})", mend)
    except (ValueError, TypeError, KeyError) as error:
        _refuse(path, f"is not valid TOML ({error})", mend)
    return validated(path, value, schema, mend)


def validated(place: Place, value: object, schema: type[T], mend: str) -> T:
    """A value that was read from a file, if it is of the type; numbers are no texts and texts no numbers.

    Args:
        path: where the value was read, for the message.
        schema: the type that it must have.
        mend: what to do otherwise, as the end of a sentence.

    Raises:
        UserError: it is of another type; the first place where it differs is named.
    """
    try:
        found: T = _adapter(schema).validate_python(value, strict=True)
        return found
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        said = f"{where + ': ' if where else ''}{first['msg'][:1].lower()}{first['msg'][1:]}"
        _refuse(place, f"is damaged ({said})", mend)
    except RecursionError:
        _refuse(place, "is nested too deeply", mend)


def read_bytes(path: Path, mend: str, most: int = MOST_TEXT) -> bytes:
    """A file's bytes.

    Args:
        path: a regular file.
        mend: what to do about one that will not do, as the end of a sentence.
        most: bytes that it may have.

    Raises:
        UserError: it cannot be opened, is a pipe, a device or a folder (which could block for ever), or is too long.
    """
    check_regular(path, mend, most)
    try:
        return path.read_bytes()
    except OSError as error:
        _refuse(path, f"cannot be read ({error.strerror or error})", mend)


def check_regular(path: Path, mend: str, most: int) -> None:
    """Refuse what is no regular file of at most `most` bytes, before anything opens it. Raises UserError.

    Args:
        path: what is about to be opened.
        mend: what to do otherwise, as the end of a sentence.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        # ValueError: a NUL in the name.
        _refuse(path, f"cannot be read ({getattr(error, 'strerror', None) or error})", mend)
    if not stat.S_ISREG(status.st_mode):
        _refuse(path, "is no regular file", mend)
    if status.st_size > most:
        _refuse(path, f"has {status.st_size} bytes, more than {most}", mend)


def read_table(path: Path, mend: str) -> pa.Table:
    """A Parquet file of at most `MOST_ROWS` rows.

    Raises:
        UserError: no regular file, no Parquet, damaged, or too long.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    check_regular(path, mend, MOST_ARRAYS)
    try:
        # `read_table` of a name with "=" in it would take folders for columns.
        with pq.ParquetFile(path) as file:
            if file.metadata.num_rows > MOST_ROWS:
                _refuse(path, f"has {file.metadata.num_rows} rows, more than {MOST_ROWS}", mend)
            names = file.schema_arrow.names
            if len(set(names)) < len(names):
                _refuse(path, "has two columns of one name", mend)
            return file.read()
    except (OSError, pa.ArrowException, ValueError, TypeError, KeyError) as error:
        _refuse(path, f"cannot be read ({_line(error)})", mend)


def read_arrays(path: Path, mend: str) -> dict[str, NDArray[Any]]:
    """The arrays of an NPZ file by name: numbers and truth values, stored without compression (as `numpy.savez` does).

    Objects are never unpickled, and a member cannot unfold to more than the file's own size.

    Raises:
        UserError: no regular file, no NPZ, damaged, compressed, or with anything but arrays of numbers in it.
    """
    check_regular(path, mend, MOST_ARRAYS)
    try:
        with zipfile.ZipFile(path) as archive:
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                _refuse(path, "holds compressed members", mend)
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except DAMAGED as error:
        _refuse(path, f"cannot be read ({_line(error)})", mend)
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or array.dtype.kind not in NUMBERS:
            _refuse(path, f"holds {name!r}, which is no array of numbers", mend)
    return arrays


def mapped_array(path: Path, mend: str, kinds: str = NUMBERS) -> NDArray[Any]:
    """The array of an NPY file, read-only and memory-mapped.

    Args:
        path: the NPY file.
        mend: what to do about a file that will not do, the end of a sentence.
        kinds: letters of the NumPy kinds that it may be of; objects are never unpickled.

    Raises:
        UserError: no regular file, no NPY, shorter than its header says, or of another kind.
    """
    check_regular(path, mend, MOST_ARRAYS)
    try:
        # `numpy.load` would take an archive or a pickle for what they are.
        array: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    except DAMAGED as error:
        _refuse(path, f"cannot be read ({_line(error)})", mend)
    if array.dtype.kind not in kinds:
        _refuse(path, f"holds {array.dtype}, not what is kept there", mend)
    return array


def refuse_links_out(folder: Path, mend: str, besides: Collection[str] = ()) -> None:
    """Refuse a folder from which a symbolic link leads out: what is written through it would land elsewhere.

    Args:
        folder: searched with all that is below it.
        mend: what to do about a link, as the end of a sentence.
        besides: folders in it that are not looked into, since nothing of ours reads or writes there.

    Raises:
        UserError: naming the first such link.
    """
    inside = os.path.realpath(folder)
    for parent, folders, names in os.walk(folder):
        if Path(parent) == folder:
            folders[:] = [name for name in folders if name not in besides]
        for name in (*folders, *names):
            path = Path(parent, name)
            if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(inside):
                _refuse(path, "is a symbolic link that leads out of the folder", mend)


def _adapter(schema: Any) -> TypeAdapter[Any]:
    # Made once a type: it compiles the type into a validator.
    if schema not in _ADAPTERS:
        _ADAPTERS[schema] = TypeAdapter(schema)
    return _ADAPTERS[schema]


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number that JSON has")


def _line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _refuse(place: Place, what: str, mend: str) -> NoReturn:
    raise UserError(f"{place} {what}; {mend}")
