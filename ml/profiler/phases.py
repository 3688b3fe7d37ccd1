"""The phases of a training step, by the names of SageMaker's framework metrics; ours and smdebug's are the same.

What smdebug has a name for is called so. Its own loops also leave the -SubModuleInternal phases and DataLoaderWorker.
"""

STEP = "Step:ModeKeys."
TRAIN, EVAL = f"{STEP}TRAIN", f"{STEP}EVAL"
LOADER, WORKER, WAITING = "DataLoaderIterInitialize", "DataLoaderWorker", "DataLoaderIter"
PREPARING, FORWARD = "Preparation", "Forward"
BACKWARD, OPTIMIZER = "Backward(post-forward)", "Optimizer"
FORWARDS = (FORWARD, "Forward-SubModuleInternal")
BACKWARDS = (BACKWARD, "Backward-SubModuleInternal")
