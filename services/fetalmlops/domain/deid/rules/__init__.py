"""The rules as data: the standard's table, profiles, and what a value must look like to be kept."""
