"""The room of Ascend NPUs: atc, ais_bench, pyACL."""
