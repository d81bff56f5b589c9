"""Rewrite rules, one idea per file; `table` puts them in order."""
