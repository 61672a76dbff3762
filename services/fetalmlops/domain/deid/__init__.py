"""De-identification of ultrasound DICOM."""
