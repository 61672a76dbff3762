"""DICOM as others speak it: its senders, their table, and the libraries that decode its pixels."""
