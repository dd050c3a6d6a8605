"""How commands draw: terminals, tables, lines that fit."""
