"""A checkpoint's tensors in the formats that the kernels read, and the files that keep them."""
