"""Files to named tensors: Hugging Face folders, safetensors, llama2.c .bin, and the packed cache."""
