"""A small service in front of PostgreSQL: what a typical product runs behind its proxy."""
