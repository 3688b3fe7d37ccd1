"""A user's script that prints for some seconds."""

import time

for number in range(1, 21):
    print("counted to", number, flush=True)
    time.sleep(0.3)
