"""One folder per device runtime, named as --backend names it; `rooms` opens them by name."""
