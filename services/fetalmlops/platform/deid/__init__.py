"""What de-identification needs from outside: keys, the vault, codes, the reading of text, trust."""
