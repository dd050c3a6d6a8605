"""Tuning: a model that is there learns a task, by small adapters on weights that stay as they are."""
