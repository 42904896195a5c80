"""Measured times in place of prices: `choice` decides by them, `store` remembers them.

`trials` tries the candidates for one problem, built as small graphs (`graphs`), in alternation (`timing`).
"""
