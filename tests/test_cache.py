"""The cache: where it lies, how large it gets, and that a damaged entry is none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from modelopt_cli.cache import Cache, key_of, open_cache, parse_size
from modelopt_cli.errors import UsageError


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", 1000)


def test_what_was_put_is_got_by_another(cache: Cache) -> None:
    assert cache.get("kind", "a") is None
    assert cache.put("kind", "a", b"content")
    assert Cache(cache.folder, 1000).get("kind", "a") == b"content"
    assert cache.get("other", "a") is None
    cache.drop("kind", "a")
    assert cache.get("kind", "a") is None


def test_what_was_not_used_for_longest_makes_room(cache: Cache) -> None:
    for age, key in ((300, "old"), (200, "asked for"), (100, "young")):
        cache.put("kind", key, bytes(200))
        os.utime(cache.folder / "kind" / key, (0, 1e9 - age))
    assert cache.get("kind", "asked for") is not None
    cache.put("kind", "large", bytes(600))
    kept = {path.name for path in (cache.folder / "kind").iterdir()}
    assert kept == {"asked for", "large"}  # 2 x 32 bytes of digests: the third no longer fits
    assert not cache.put("kind", "too large", bytes(1000))


def test_a_damaged_entry_is_none(cache: Cache) -> None:
    cache.put("kind", "a", b"content")
    (cache.folder / "kind" / "a").write_bytes(b"\0" * 40)
    assert cache.get("kind", "a") is None


def test_a_folder_that_cannot_be_made_stores_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert not Cache(tmp_path / "file" / "cache", 1000).put("kind", "a", b"x")


def test_usage_and_clearing(cache: Cache) -> None:
    cache.put("b", "1", bytes(10))
    cache.put("a", "1", bytes(10))
    cache.put("a", "2", bytes(20))
    assert [(each.kind, each.entries, each.bytes) for each in cache.usage()] == [("a", 2, 94), ("b", 1, 42)]
    cache.clear()
    assert cache.usage() == []
    cache.clear()


def test_the_xdg_rule(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MODELOPT_CACHE_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert open_cache().folder == tmp_path / ".cache" / "modelopt"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert open_cache().folder == tmp_path / ".cache" / "modelopt"
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert open_cache().folder == Path("/elsewhere/modelopt")
    monkeypatch.setenv("MODELOPT_CACHE_DIR", "/own")
    assert open_cache().folder == Path("/own")


@pytest.mark.parametrize(("text", "size"), [("0", 0), ("500MB", 500 * 10**6), ("1.5 gb", 15 * 10**8), ("64", 64)])
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


def test_what_is_no_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELOPT_CACHE_SIZE", "much")
    with pytest.raises(UsageError, match="'much' is no size"):
        open_cache()


def test_a_cap_of_0_switches_it_off(tmp_path: Path) -> None:
    Cache(tmp_path, 1000).put("kind", "a", b"x")
    off = Cache(tmp_path, 0)
    assert off.get("kind", "a") is None
    assert not off.put("kind", "b", b"")


def test_keys_tell_where_a_part_ends() -> None:
    assert key_of("ab", "c") != key_of("a", "bc")
    assert key_of("ab", b"c") == key_of(b"ab", "c")


def test_a_user_without_a_home_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MODELOPT_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    assert open_cache().get("kind", "a") is None
    assert open_cache().usage() == []
    assert not open_cache().put("kind", "a", b"x")
