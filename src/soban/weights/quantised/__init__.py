"""Weights that another program has quantised, in the safetensors of a Hugging Face folder: a module per method."""
