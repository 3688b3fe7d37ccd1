"""A user's script that would run for ever."""

import time

while True:
    time.sleep(0.2)
