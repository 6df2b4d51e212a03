"""Names on the wire that both sides must agree on. Standard library only."""

from __future__ import annotations

#: Raised when an older side could no longer work with a newer one.
PROTOCOL_VERSION = 1
#: Sent and echoed under `capabilities.experimental` of `initialize`: how our programs recognise each other.
CAPABILITY = "dev.aiagent-coordinator/1"
#: First frame of our own clients: a notification whose params say who calls; see `hello` builders below.
HELLO = "notifications/dev.aiagent-coordinator/hello"
#: Updated when what should run may have changed.
ACTIONS_URI = "coord://actions"
#: One JSON-RPC message per line, at most this many bytes, newline included.
MAX_FRAME_BYTES = 16 * 1024 * 1024
#: The revision our own clients speak: a handshake, live subscriptions.
MCP_REVISION = "2025-11-25"

#: What an agent may call, for CLIs that are told tool by tool what needs no asking.
AGENT_TOOLS = (
    "authenticate",
    "get_my_task",
    "get_next_action",
    "report_progress",
    "report_completed",
    "get_session_guide",
    "logout",
    "ask_human",
    "permission_prompt",
    "create_task",
    "create_tasks_batch",
    "update_task_status",
    "get_my_task_progress",
    "get_my_profile",
    "report_model",
    "help",
    "list_tasks",
    "get_task",
    "get_project",
    "get_my_execution_history",
    "get_execution_log",
    "report_execution_start",
    "report_execution_complete",
    "get_notifications",
    "split_task",
    "list_subordinates",
    "get_subordinate_profile",
    "assign_task",
    "select_action",
    "request_task",
    "approve_task_request",
    "reject_task_request",
    "review_task",
    "get_pending_messages",
    "send_message",
    "notify_task_session",
    "start_task_from_chat",
    "update_task_from_chat",
    "start_conversation",
    "end_conversation",
    "get_task_conversations",
    "get_conversation_messages",
    "delegate_to_chat_session",
    "report_delegation_completed",
    "hand_over",
    "take_handoff",
    "list_handoffs",
    "register_skill",
)


#: What an agent may call at a server of another make, AI Agent PM.
GUEST_TOOLS = (
    *("authenticate", "help", "logout", "report_model", "get_session_guide", "get_next_action"),
    *("get_my_profile", "get_my_task", "get_my_task_progress", "get_notifications", "get_project"),
    *("list_tasks", "get_task", "request_task", "get_my_execution_history", "get_execution_log"),
    *("list_subordinates", "get_subordinate_profile", "assign_task", "select_action"),
    *("approve_task_request", "reject_task_request", "create_task", "create_tasks_batch"),
    *("split_task", "update_task_status", "report_completed", "report_execution_start"),
    *("report_execution_complete", "delegate_to_chat_session", "get_task_conversations"),
    *("get_conversation_messages", "get_pending_messages", "send_message", "start_conversation"),
    *("end_conversation", "report_delegation_completed", "start_task_from_chat"),
    *("update_task_from_chat", "notify_task_session", "register_skill"),
)


def runs_uri(coordinator_id: str) -> str:
    """The resource that is updated when an agent of this coordinator said something."""
    return f"coord://runs/{coordinator_id}"


def hello_run(run_id: str, token: str, nonce: str, resend: list[int | str]) -> dict[str, object]:
    """The hello of a run's bridge. `resend` names requests that were sent before and had no answer."""
    return _hello({"run": run_id, "token": token, "nonce": nonce, "resend": resend})


def hello_coordinator(token: str) -> dict[str, object]:
    """The hello of a coordinator."""
    return _hello({"coordinator_token": token})


def hello_person(operator_key: str) -> dict[str, object]:
    """The hello of a person's command."""
    return _hello({"operator_key": operator_key})


def _hello(params: dict[str, object]) -> dict[str, object]:
    return {"jsonrpc": "2.0", "method": HELLO, "params": {"v": PROTOCOL_VERSION, **params}}
