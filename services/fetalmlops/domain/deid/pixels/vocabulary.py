"""Words that may stand in a picture: of measurements, of the machine's settings, of what is shown. None is a common name.

Two-letter abbreviations that are also initials are a risk that is taken: they tell of nobody without a name beside them, and a
name is not in this list.
"""

from __future__ import annotations

__all__ = ["MARKS", "UNITS", "WORDS"]

_MEASUREMENTS = """
    BPD HC AC FL HL GA EFW OFD CRL NT TCD CM AFI MVP CI TAD APAD TTD LV LVOT RV LA RA AO PA UA MCA DV PI RI PSV EDV S/D TAMAX SD
    DIST CIRC AREA VOL ANGLE DIAM INDEX LENGTH WIDTH DEPTH PG VEL MAX MEAN
"""
_SETTINGS = """
    MI TI TIB TIS TIC FR FPS HZ DR GN FRQ PWR PRF WF THI CRI SRI HI B C D G M P PW CF CW TH T 2D 3D 4D RS
    DYN LOW MED HIGH RES GEN PEN HGEN HRES HPEN GAIN MAP DB/DR X1 X2
"""
_ANATOMY = """
    BRAIN ABDOMEN FEMUR THORAX HEART CERVIX KIDNEY STOMACH PLACENTA BLADDER CSP THAL CEREB LEFT RIGHT L R LT RT
    ANT POST SAG TRANS TRV ASC DESC LIVER REN KID
"""
WORDS = frozenset((_MEASUREMENTS + _SETTINGS + _ANATOMY).split())
"""In upper case."""

_UNITS = """
    CM MM M CM/S M/S MM/S HZ KHZ MHZ DB ML CM2 CM² MM2 MM² G KG % ° W D S MS FPS BPM MMHG
"""
UNITS = frozenset(_UNITS.split())
"""Units of numbers, in upper case."""

MARKS = frozenset("+*X\u00d7十·")
"""Characters that the crosses of calipers are read as, in upper case."""
