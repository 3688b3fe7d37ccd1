"""Tensors that a test makes up, written as the hook writes those of a training: any worker, step and value."""

import json
import time
from pathlib import Path

from debugger.hook_config import BUILT_IN, MODES
from debugger.tensors.writer import event, record, replace


class TensorWriter:
    """One worker of one training. `collections` are {name: [expressions]} beside the built-in ones."""

    def __init__(self, folder, collections=None, worker="worker_0", num_workers=1):
        self.folder, self.worker, self.step = Path(folder), worker, -1
        self.mode_steps = dict.fromkeys(MODES, -1)
        described = {
            name: {"name": name, "include_regex": list(regexes), "tensor_names": []}
            for name, regexes in (BUILT_IN | {"all": [".*"]} | (collections or {})).items()
        }
        text = json.dumps({"collections": described, "_meta": {"num_workers": num_workers}})
        self.put(f"collections/000000000/{worker}_collections.json", text.encode())

    def save(self, mode, tensors, clock=None):
        """One step. Values are arrays, or {reduction: number} with the reductions called as the hook is told them."""
        self.step += 1
        self.mode_steps[mode] += 1
        return self.write(self.step, mode, self.mode_steps[mode], tensors, clock)

    def write(self, step, mode, mode_step, tensors, clock=None):
        chunks, payload, at = [], [], 0
        now = time.time() if clock is None else clock
        for name, value in saved(tensors):
            chunks.append(record(event(name, value, step, mode, mode_step, now)))
            payload.append({"tensorname": name, "start_idx": at, "length": len(chunks[-1])})
            at += len(chunks[-1])
        events = f"events/{step:012d}/{step:012d}_{self.worker}.tfevents"
        meta = {"mode": mode, "mode_step": mode_step, "event_file_name": events}
        index = {"meta": meta, "tensor_payload": payload, "shape_payload": []}
        self.put(events, b"".join(chunks))
        self.put(f"index/{step // 1000:09d}/{step:012d}_{self.worker}.json", json.dumps(index).encode())
        return step

    def end(self):
        self.put("training_job_end.ts", b"")

    def put(self, name, content):
        replace(self.folder / name, content)


def saved(tensors):
    for name, value in tensors.items():
        if isinstance(value, dict):
            yield from ((f"smdebug/reductions/{reduction}/{name}", number) for reduction, number in value.items())
        else:
            yield name, value
