"""From a model's name to its files: the catalogue, the hub, and what is kept of it on this PC."""
