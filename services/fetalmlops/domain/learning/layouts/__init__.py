"""How data sets lie on disk: each layout reads names, tables and headers, and says what each image is. No pixels here."""
