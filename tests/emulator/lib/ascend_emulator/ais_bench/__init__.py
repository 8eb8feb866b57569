"""The ais_bench package, both generations: its behaviour as recorded, written anew."""
