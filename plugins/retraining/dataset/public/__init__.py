"""Data sets as their makers and hubs publish them, written out as a folder of class folders."""
