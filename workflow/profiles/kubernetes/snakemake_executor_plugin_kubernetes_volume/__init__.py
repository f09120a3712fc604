"""Snakemake's executor for Kubernetes, on a volume that all jobs share.

The executor of snakemake-executor-plugin-kubernetes takes it that no two machines share a disk: it
sends each job its inputs and fetches its outputs, and all else that a job wrote is lost. Here a job
goes on from what a killed one saved, so the run's folder lies on a volume (a claim that many nodes
may write), mounted in each job at the path that it has where the run was started. This says so to
Snakemake and changes nothing else.
"""

from dataclasses import replace

from snakemake_executor_plugin_kubernetes import Executor, ExecutorSettings
from snakemake_executor_plugin_kubernetes import common_settings as without_a_volume

__all__ = ["Executor", "ExecutorSettings", "common_settings"]

common_settings = replace(
    without_a_volume,
    implies_no_shared_fs=False,
    job_deploy_sources=False,
    auto_deploy_default_storage_provider=False,
)
