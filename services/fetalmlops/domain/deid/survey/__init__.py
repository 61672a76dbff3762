"""What a folder of files would come to, before any of them is de-identified: facts of a file, and their sum by scanner."""
