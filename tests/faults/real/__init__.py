"""`make kill-runs`: the real stack at work, and SIGKILL for whichever of its processes the seed picks.

`installation` starts the stack and starts killed services again, `tree` tells what its processes are, `client` asks the
endpoint all the while, `evidence` reads what a run left in the world, `invariants` judges it, `campaign` goes on from
run to run. The simulator beside this folder sees every moment of a run; this one sees what it cannot: Airflow's own
recovery, the server's, the store's, and attempts that live on beside the one that follows them.
"""
