"""The entire job, from photographs to the row of a table: its files, its stages, and how they are run."""
