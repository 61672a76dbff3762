"""Fetal phantoms and the synthetic ultrasound DICOM made from them."""
