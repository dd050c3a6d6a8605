"""What a model takes of this PC: memory, speed, the disk."""
