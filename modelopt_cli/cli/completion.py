"""Words that a shell offers after a flag. With none that fits, it offers files: flags take names or files."""

from __future__ import annotations

from collections.abc import Iterable


def recipe_names(incomplete: str) -> list[str]:
    """Built-in recipes."""
    from modelopt_cli.recipe.builtin import builtin_recipes

    return _beginning(builtin_recipes(), incomplete)


def provider_names(incomplete: str) -> list[str]:
    """Providers of ours; those of plug-ins are files or packages."""
    from modelopt_cli.profiling.providers import PROVIDERS

    return _beginning(PROVIDERS, incomplete)


def metric_names(incomplete: str) -> list[str]:
    """Metrics for labelled data."""
    from modelopt_cli.evaluation.metrics import METRICS

    return _beginning(METRICS, incomplete)


def pass_names(incomplete: str) -> list[str]:
    """Passes, those of plug-ins as well."""
    from modelopt_cli.passes.registry import pass_names as names

    return _beginning(names(), incomplete)


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
