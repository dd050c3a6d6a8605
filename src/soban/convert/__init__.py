"""Models from one form on disk to another: a Hugging Face folder, llama2.c's .bin."""
