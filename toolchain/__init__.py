"""How the native library and its wheels are built where no C++ compiler is, and for other systems."""
