"""Anthropic's API: what it takes and how it answers."""
