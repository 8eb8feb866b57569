"""The ncnn backend: small CPUs, and float32, bfloat16 or int8 on large ones."""
