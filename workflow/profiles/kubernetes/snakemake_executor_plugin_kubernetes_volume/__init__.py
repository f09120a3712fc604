"""Snakemake's executor for Kubernetes, on a volume that all jobs share.

The executor of snakemake-executor-plugin-kubernetes takes it that no two machines share a disk: it
sends each job its inputs and fetches its outputs, and all else that a job wrote is lost. Here a job
goes on from what a killed one saved, so the run's folder lies on a volume (a claim that many nodes
may write), mounted in each job at the path that it has where the run was started. This says so to
Snakemake, and has a job begin in the run's folder.
"""

import shlex
from dataclasses import replace

from snakemake_executor_plugin_kubernetes import Executor as WithoutVolume
from snakemake_executor_plugin_kubernetes import ExecutorSettings
from snakemake_executor_plugin_kubernetes import common_settings as without_volume
from snakemake_interface_executor_plugins.jobs import JobExecutorInterface

__all__ = ["Executor", "ExecutorSettings", "common_settings"]

common_settings = replace(
    without_volume,
    implies_no_shared_fs=False,
    job_deploy_sources=False,
    auto_deploy_default_storage_provider=False,
)


class Executor(WithoutVolume):
    def get_job_exec_prefix(self, job: JobExecutorInterface) -> str:
        return f"cd {shlex.quote(self.workflow.workdir_init)}"
