"""Text to token ids and back, by each kind of tokenizer's files."""
