"""What ends a command of the stack: one message for the person at the terminal."""


class StackError(Exception):
    """A reason to stop, told so that the reader knows what to do next. Printed without a traceback; exit status 1."""
