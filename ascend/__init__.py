"""The backend of Ascend NPUs: atc, ais_bench, pyACL."""
