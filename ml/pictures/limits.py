"""What a picture may measure, where more than one file of this folder asks."""

MAX_OTHER_PIXELS = 50_000_000  # of a format whose decoder holds several copies of a picture: 16 bytes a pixel
