"""The room of ncnn: small CPUs, and float32, bfloat16 or int8 on large ones."""
