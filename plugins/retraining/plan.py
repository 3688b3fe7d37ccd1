"""Every name and S3 address of one run, before the run begins.

Names derive from the run's id, so a retry, a cleared task and a second attempt find what the first one made instead of
paying for it again. They never derive from the clock or from a logical date, which API and asset runs do not have.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime

from retraining.environment import Environment
from retraining.recipe import Recipe

# A tuning job's name may have 32 characters: 9 for the recipe, 20 for the run, 3 for "-g2", a second generation.
MAX_PREFIX = 9
# Of ResourceLimits.MaxRuntimeInSeconds, in SageMaker's API reference; the longer one is half a year.
MIN_TUNING_SECONDS, MAX_TUNING_SECONDS = 120, 15_768_000


def name_prefix(recipe_name: str) -> str:
    """What all names of one recipe begin with: its name, or when too long the beginning and a digest."""
    if len(recipe_name) <= MAX_PREFIX:
        return recipe_name
    return f"{recipe_name[:5].rstrip('-')}-{hashlib.sha256(recipe_name.encode()).hexdigest()[:3]}"


def run_name(recipe_name: str, run_after: datetime, run_id: str, bucket: str) -> str:
    """For example digits-261121-030000-a1b2c, at most 29 characters, the same for every attempt of a run.

    Two deployments of one account have buckets of their own, and so their runs other names, also at the same moment.
    """
    at = run_after.astimezone(UTC).strftime("%y%m%d-%H%M%S")
    digest = hashlib.sha256(f"retrain_{recipe_name}|{run_id}|{bucket}".encode()).hexdigest()[:5]
    return f"{name_prefix(recipe_name)}-{at}-{digest}"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One run of one recipe in one environment."""

    recipe: Recipe
    environment: Environment
    run_name: str

    @classmethod
    def of(cls, recipe: Recipe, environment: Environment, run_after: datetime, run_id: str) -> Plan:
        name = run_name(recipe.name, run_after, run_id, environment.bucket)
        return cls(recipe=recipe, environment=environment, run_name=name)

    # Jobs and resources. The model and the endpoint configuration carry the run's name, so that an endpoint tells
    # which run it serves.
    @property
    def verification_job(self) -> str:
        return f"{self.run_name}-sync"

    @property
    def tuning_job(self) -> str:
        return self.run_name

    @property
    def training_job(self) -> str:
        return f"{self.run_name}-train"

    @property
    def evaluation_job(self) -> str:
        return f"{self.run_name}-rules"

    @property
    def candidate_scoring_job(self) -> str:
        return f"{self.run_name}-candidate"

    @property
    def champion_scoring_job(self) -> str:
        return f"{self.run_name}-champion"

    @property
    def shadow_candidate_job(self) -> str:
        return f"{self.run_name}-shadow-candidate"

    @property
    def shadow_champion_job(self) -> str:
        return f"{self.run_name}-shadow-champion"

    @property
    def model(self) -> str:
        return self.run_name

    @property
    def endpoint_config(self) -> str:
        return self.run_name

    @property
    def endpoint(self) -> str:
        return self.recipe.endpoint

    @property
    def model_package_group(self) -> str:
        return f"retraining-{self.recipe.name}"

    @property
    def tags(self) -> list[dict[str, str]]:
        """Of everything that a run makes in SageMaker."""
        return [
            *self.deployment_tags,
            {"Key": "retraining:run", "Value": self.run_name},
            *self.environment.account_rules.tag_list,
        ]

    @property
    def deployment_tags(self) -> list[dict[str, str]]:
        """What tells this recipe, in this deployment, from one of the same name in the same account."""
        return [
            {"Key": "retraining:recipe", "Value": self.recipe.name},
            {"Key": "retraining:bucket", "Value": self.environment.bucket},
        ]

    def owns(self, name: str) -> bool:
        """Whether a model or endpoint configuration was made by some run of this recipe."""
        pattern = re.escape(name_prefix(self.recipe.name)) + r"-\d{6}-\d{6}-[0-9a-f]{5}"
        return re.fullmatch(pattern, name) is not None

    # S3. Keys are relative to the bucket.
    @property
    def root(self) -> str:
        return self.recipe.name

    @property
    def data_key(self) -> str:
        return f"{self.root}/data/"

    @property
    def images_key(self) -> str:
        return f"{self.data_key}images/"

    @property
    def champion_key(self) -> str:
        return f"{self.root}/champion.json"

    def past_champion_key(self, run_name: str) -> str:
        return f"{self.root}/champions/{run_name}.json"

    @property
    def lifetime_key(self) -> str:
        """When the endpoint's time to live began, and whether its end was told."""
        return f"{self.root}/endpoint-lifetime.json"

    @property
    def rejections_key(self) -> str:
        return f"{self.root}/rejected-candidates.json"

    @property
    def captured_key(self) -> str:
        """Where the endpoint's data capture writes, if the recipe keeps requests."""
        return f"{self.root}/captured"

    @property
    def shadow_images_key(self) -> str:
        """Requests that both models are asked once more: copies, which leave with what they are copies of."""
        return f"{self.captured_key}/shadow/{self.run_name}/"

    @property
    def shadow_manifest_key(self) -> str:
        return f"{self.run_key}/shadow.manifest"

    @property
    def shadow_choice_key(self) -> str:
        return f"{self.run_key}/shadow-requests.json"

    @property
    def shadow_key(self) -> str:
        """What both models answered, and where they differ."""
        return f"{self.run_key}/shadow.json"

    @property
    def run_key(self) -> str:
        return f"{self.root}/runs/{self.run_name}"

    @property
    def release_key(self) -> str:
        return f"{self.run_key}/release.json"

    @property
    def album_key(self) -> str:
        """The images that tell candidate and champion apart, for the run's page."""
        return f"{self.run_key}/page/images.json"

    @property
    def epochs_key(self) -> str:
        """The curves of the training, for the run's page."""
        return f"{self.run_key}/page/training.json"

    @property
    def labels_key(self) -> str:
        """Labels that are doubted, with small pictures, for the run's page."""
        return f"{self.run_key}/page/labels.json"

    @property
    def series_key(self) -> str:
        """What Debugger rules judged where they found an issue, for the run's page."""
        return f"{self.run_key}/page/rules.json"

    @property
    def page_key(self) -> str:
        """The run's page as one file."""
        return f"{self.run_key}/report.html"

    @property
    def report_key(self) -> str:
        return f"{self.run_key}/report.json"

    def work_key(self, digest: str) -> str:
        """What a job has to verify, by the work's digest."""
        return f"{self._verification_key(digest)}/work.jsonl.gz"

    def work_manifest_key(self, digest: str) -> str:
        return f"{self._verification_key(digest)}/files.manifest"

    def found_key(self, digest: str) -> str:
        """The folder of what a job found."""
        return f"{self._verification_key(digest)}/found"

    def _verification_key(self, digest: str) -> str:
        """Below the data, so that gc finds it once nothing needs it."""
        return f"{self.data_key}verified/{self.run_name}/{digest}"

    def version_key(self, fingerprint: str) -> str:
        return f"{self.root}/data/versions/{fingerprint}"

    def manifest_key(self, fingerprint: str, split: str) -> str:
        return f"{self.version_key(fingerprint)}/{split}.manifest"

    def shards_key(self, fingerprint: str, split: str) -> str:
        """The folder of a split as tar shards."""
        return f"{self.version_key(fingerprint)}/shards/{split}/"

    @property
    def decisions_key(self) -> str:
        """What people decided about labels."""
        return f"{self.root}/data/labels.csv"

    def proposals_key(self, fingerprint: str) -> str:
        """Labels of a version that are doubted, for people to decide about."""
        return f"{self.version_key(fingerprint)}/labels.csv"

    def names_key(self, fingerprint: str) -> str:
        """How the source names the images."""
        return f"{self.version_key(fingerprint)}/names.json"

    def test_pixels_key(self, fingerprint: str) -> str:
        """How large and how bright the test images are, where slices go by it."""
        return f"{self.version_key(fingerprint)}/test-pixels.json"

    def source_key(self, digest: str) -> str:
        return f"{self.root}/code/{digest}/sourcedir.tar.gz"

    @property
    def evaluation_key(self) -> str:
        return f"{self.run_key}/rules"

    def scoring_key(self, job_name: str) -> str:
        return f"{self.run_key}/scoring/{job_name}"

    def uri(self, key: str) -> str:
        return f"s3://{self.environment.bucket}/{key}"

    # Machines: the environment may replace what the recipe says.
    @property
    def training_instance_type(self) -> str:
        return self.environment.training_instance_type or self.recipe.training.instance_type

    @property
    def serving_instance_type(self) -> str:
        return self.environment.serving_instance_type or self.recipe.serving.instance_type

    @property
    def scoring_instance_type(self) -> str:
        """Of the batch transforms."""
        return self.recipe.scoring_instance_type(self.serving_instance_type) or self.serving_instance_type

    @property
    def spot_wait_seconds(self) -> int | None:
        """How long SageMaker may wait for spot capacity and train, together; None without spot instances."""
        training = self.recipe.training
        return 2 * training.max_runtime_seconds if training.spot else None

    @property
    def tuning_limit_seconds(self) -> int:
        """How long the whole search may take: its rounds of parallel trials, with ten minutes for each to start.

        Within SageMaker's bounds: few trials take all their time, and the search keeps what it has found by then.
        """
        tuning = self.recipe.tuning
        rounds = -(-tuning.max_jobs // tuning.max_parallel_jobs)
        longest = self.spot_wait_seconds or self.recipe.training.max_runtime_seconds
        return min(MAX_TUNING_SECONDS, max(MIN_TUNING_SECONDS, rounds * (longest + 600)))
