"""What every part of the server shares: state, logs, storage, the machine's cores and the running jobs."""

from __future__ import annotations

import dataclasses

from local_sagemaker.background import Background
from local_sagemaker.s3 import ObjectStore
from local_sagemaker.sandbox.cores import Cores
from local_sagemaker.sandbox.images import ImageMap
from local_sagemaker.sandbox.isolation import Isolation
from local_sagemaker.sandbox.patterns import PatternProcesses
from local_sagemaker.settings import Settings
from local_sagemaker.state.alarms import Alarms
from local_sagemaker.state.logs import Logs
from local_sagemaker.state.metrics import MetricStore
from local_sagemaker.state.store import Store


@dataclasses.dataclass(kw_only=True)
class Platform:
    settings: Settings
    store: Store
    logs: Logs
    metrics: MetricStore
    alarms: Alarms
    objects: ObjectStore
    images: ImageMap
    cores: Cores
    isolation: Isolation
    patterns: PatternProcesses
    background: Background

    def close(self) -> None:
        """Once nothing runs any more that writes here."""
        self.patterns.close()
        self.alarms.close()
        self.metrics.close()
        self.store.close()
        self.logs.close()
