"""``fetalmlops deid``: folders de-identified, and what is done to what."""
