"""``modelopt cache info | clear``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import typer

from modelopt_cli.cache import open_cache
from modelopt_cli.cli.console import print_json, print_payload
from modelopt_cli.cli.options import Debug, Json

group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Show or clear what is kept between runs.")


@group.command("info")
def info(as_json: Json = False, debug: Debug = False) -> None:
    """Show where the cache lies, what it holds and how large it may get."""
    facts = describe()
    if as_json:
        print_json(facts)
        return
    from modelopt_cli.cli.render_facts import cache_lines

    print_payload(*cache_lines(facts))


@group.command("clear")
def clear(debug: Debug = False) -> None:
    """Remove all of it; nothing is lost but time."""
    from modelopt_cli.format import format_bytes

    cache = open_cache()
    freed = sum(kind.bytes for kind in cache.usage())
    cache.clear()
    print_payload(f"{cache.folder}: {format_bytes(freed)} freed")


def describe() -> dict[str, Any]:
    """The cache as data."""
    cache = open_cache()
    kinds = cache.usage()
    return {
        "folder": str(cache.folder),
        "max_bytes": cache.max_bytes,
        "bytes": sum(kind.bytes for kind in kinds),
        "kinds": [asdict(kind) for kind in kinds],
    }
