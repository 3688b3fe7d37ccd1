"""One thread beside the training's own, for work that the training need not wait for, in the order it was given."""

from concurrent.futures import Future, ThreadPoolExecutor


class SideThread:
    """Started by the first work. numpy lets go of the interpreter while it computes, so a free core takes it over."""

    def __init__(self, name):
        self.pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    def do(self, work, *arguments):
        """-> its Future. When the interpreter ends there are no more threads; then it is done before this returns."""
        try:
            return self.pool.submit(work, *arguments)
        except RuntimeError:
            done = Future()
            try:
                done.set_result(work(*arguments))
            except Exception as error:
                done.set_exception(error)
            return done
