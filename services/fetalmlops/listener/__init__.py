"""The DICOM listener: C-STORE to a durable instance and its event."""
