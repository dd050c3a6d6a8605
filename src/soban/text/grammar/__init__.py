"""Texts whose form is known beforehand: JSON of a schema, what an expression matches, a choice, a grammar's words."""
