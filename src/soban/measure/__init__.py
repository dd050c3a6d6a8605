"""Figures about a model: how well it predicts, how fast it is."""
