"""The entire job, from photos to the row of a table: its files, its stages, and how they are run."""
