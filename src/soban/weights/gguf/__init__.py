"""GGUF, the files of llama.cpp, Ollama and LM Studio: read, written, and what their keys mean."""
