"""From files of any kind to token shards: reading, cleaning, splitting, a tokenizer, and batches for training."""
