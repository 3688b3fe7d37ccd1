"""Where the time of a training goes: phases of its steps, use of the machine, and rules over both."""
