"""Conversations to token ids, by the template that the model was taught with."""
