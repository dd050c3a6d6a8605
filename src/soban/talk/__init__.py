"""From messages to text as it comes: what fits, what is written, and a conversation of turns."""
