"""Names, identity and files."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from bench.core import atomic
from bench.core.errors import UnknownName, UserError
from bench.core.identity import canonical, derive_seed, digest
from bench.core.plugins import load_plugin
from bench.core.registry import Registry, import_extra


@pytest.fixture
def animals() -> Registry[str]:
    registry: Registry[str] = Registry("animal")
    for name in ("cat", "cat-black", "dog"):
        registry.register(name, name.upper())
    return registry


def test_patterns_keep_the_order_and_drop_repeats(animals: Registry[str]) -> None:
    assert animals.match("all") == ["cat", "cat-black", "dog"]
    assert animals.match("dog, cat*, cat") == ["dog", "cat", "cat-black"]


def test_an_unknown_name_offers_near_ones(animals: Registry[str]) -> None:
    with pytest.raises(UnknownName, match="no animal is called 'dgo'; did you mean dog"):
        animals.get("dgo")
    with pytest.raises(UnknownName, match="zebra"):
        animals.match("cat,zebra*")


def test_a_name_is_registered_once(animals: Registry[str]) -> None:
    with pytest.raises(ValueError, match="registered twice"):
        animals.register("cat", "again")


def test_resolvers_answer_for_their_prefix(animals: Registry[str]) -> None:
    animals.resolver("zoo", lambda rest: f"zoo {rest}")
    animals.resolver("@", lambda name: f"pair {name}")
    assert animals.get("zoo:lion") == "zoo lion"
    assert animals.get("cat@zoo:lion") == "pair cat@zoo:lion"
    assert animals.match("zoo:lion") == ["zoo:lion"]
    assert "zoo:lion" not in animals.names()


def test_identity_does_not_depend_on_the_order_of_keys() -> None:
    assert canonical({"b": 1, "a": [1.5, None]}) == '{"a":[1.5,null],"b":1}'
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    with pytest.raises(ValueError, match="JSON"):
        canonical(float("nan"))


def test_seeds_are_fixed_for_ever_and_told_apart() -> None:
    assert derive_seed("data", "phantom-brain", "grouped", 0) == derive_seed("data", "phantom-brain", "grouped", 0)
    assert derive_seed("a", "bc") != derive_seed("ab", "c")
    # The first four bytes of sha256(b"a\x1f1"), shifted right once: a change here changes every result.
    assert derive_seed("a", 1) == 1104087250
    assert all(0 <= derive_seed("x", number) < 2**31 for number in range(100))


def _half_written(temporary: Path) -> None:
    temporary.write_text("half")
    raise RuntimeError("power cut")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    atomic.write_json(path, {"old": 1})
    with pytest.raises(RuntimeError, match="power cut"), atomic.replacing(path) as temporary:
        _half_written(temporary)
    assert json.loads(path.read_text()) == {"old": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]


def test_a_full_disk_is_the_users_to_mend(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match=r"no space left to write .*result\.json"),
        atomic.replacing(tmp_path / "result.json"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_nan_is_refused_rather_than_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        atomic.write_json(tmp_path / "x.json", {"value": float("nan")})
    assert not list(tmp_path.iterdir())


def test_a_plugin_that_fails_is_named(tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text("raise KeyError('x')")
    with pytest.raises(UserError, match=r"mine\.py failed: KeyError"):
        load_plugin(plugin)
    with pytest.raises(UserError, match="takes a Python file"):
        load_plugin(tmp_path / "absent.py")


def test_a_missing_extra_is_named_with_its_command() -> None:
    assert import_extra("json.decoder", "some", "this").__name__ == "json.decoder"
    wanted = r"^secret sums needs the package absent_one, .*: python -m pip install 'deepmedix-bench\[sums\]'$"
    with pytest.raises(UserError, match=wanted):
        import_extra("absent_one.inner", "sums", "secret sums")


def test_an_extra_that_lacks_something_itself_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_extra.py").write_text("import absent_one\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="absent_one"):
        import_extra("broken_extra", "broken", "this")
