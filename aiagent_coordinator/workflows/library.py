"""The files of each kind: workflows, templates of tasks, audits."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

from aiagent_coordinator.audits import Audit
from aiagent_coordinator.tasks import Duty
from aiagent_coordinator.templates import Template
from aiagent_coordinator.workflows.audit_files import load_audit
from aiagent_coordinator.workflows.definition import Workflow
from aiagent_coordinator.workflows.finding import SUFFIX, Finder, Kind
from aiagent_coordinator.workflows.reading import load_workflow
from aiagent_coordinator.workflows.template_files import load_template

SHIPPED_FOLDER: Final = Path(__file__).parent / "builtin"
WORKFLOWS: Final = Kind("workflow", "workflows", SHIPPED_FOLDER, load_workflow)
TEMPLATES: Final[Kind[Template]] = Kind(
    "template", "templates", SHIPPED_FOLDER / "templates", load_template
)
AUDITS: Final[Kind[Audit]] = Kind("audit", "audits", SHIPPED_FOLDER / "audits", load_audit)
#: Below a project's folder.
PROJECT_FOLDER: Final = WORKFLOWS.in_project
#: What agents are told when nobody named a workflow.
DEFAULTS: Final = {Duty.WORKER: "worker", Duty.MANAGER: "manager", Duty.REVIEWER: "reviewer"}


class Library(Finder[Workflow]):
    """Finds workflows."""

    def __init__(self, user: Path | None = None) -> None:
        super().__init__(WORKFLOWS, user)


@cache
def shipped(name: str) -> Workflow:
    """A workflow as it ships."""
    return load_workflow(SHIPPED_FOLDER / f"{name}{SUFFIX}")
