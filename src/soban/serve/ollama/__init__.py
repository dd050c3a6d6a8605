"""Ollama's API: what it takes and how it answers, line by line of JSON."""
