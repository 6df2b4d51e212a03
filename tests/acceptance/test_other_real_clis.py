from __future__ import annotations

import json
import os
import sys
import subprocess
from contextlib import contextmanager
from pathlib import Path
import pytest
from support.house import house, until
from support.repo import git

__test__ = bool(os.environ.get("AIAGENT_OTHER_CLIS"))
MODEL_SERVER = Path(
    os.environ.get("MS", str(Path(__file__).parent.parent / "fakes" / "model_server.py"))
)
BIN = os.environ.get("AIAGENT_OTHER_CLIS", "")


@contextmanager
def model(folder, *arguments):
    log = folder / "model.jsonl"
    log.touch()
    command = [sys.executable, str(MODEL_SERVER), str(log), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}", log
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("name", ["copilot", "cline", "vibe"])
@pytest.mark.parametrize("approval", ["edits", "bypass", "ask"])
def test_x(name, approval, short_dir):
    with model(short_dir) as (url, log):
        with house(short_dir, i_understand_unsandboxed=True) as home:
            home.write(
                agents={
                    "worker": {"provider": name, "model": "scripted-model", "approval": approval}
                }
            )
            if name == "copilot":
                home.env |= {
                    "COPILOT_PROVIDER_BASE_URL": url + "/v1",
                    "COPILOT_PROVIDER_API_KEY": "key",
                    "COPILOT_OFFLINE": "true",
                }
            if name == "vibe":
                home.env |= {
                    "SCRIPTED_KEY": "key",
                    "MISTRAL_API_KEY": "key",
                    "VIBE_PROVIDERS": json.dumps(
                        [
                            {
                                "name": "scripted",
                                "api_base": url + "/v1",
                                "api_key_env_var": "MISTRAL_API_KEY",
                                "backend": "generic",
                            }
                        ]
                    ),
                    "VIBE_MODELS": json.dumps(
                        [
                            {
                                "name": "scripted-model",
                                "provider": "scripted",
                                "alias": "scripted-model",
                            }
                        ]
                    ),
                }
            if name == "cline":
                env = {**os.environ, **home.env, "PATH": f"{BIN}:{os.environ['PATH']}"}
                subprocess.run(
                    [
                        "cline",
                        "auth",
                        "-p",
                        "openai-compatible",
                        "-k",
                        "key",
                        "-m",
                        "scripted-model",
                        "-b",
                        url + "/v1",
                    ],
                    env=env,
                    timeout=60,
                    check=True,
                )
                home.write(ai_providers={"cline": {"cli_args": ["-P", "openai-compatible"]}})
            home.env["PATH"] = f"{BIN}{os.pathsep}{os.environ['PATH']}"
            home.ready()
            task = home.add(
                "Write a file",
                "Write model.txt.",
                check="grep -q model model.txt",
                max_attempts="1",
            )

            def over():
                runs = home.runs(task["id"])
                return runs[0] if runs and runs[0]["phase"] == "ended" else None

            try:
                run = until("end", over, 90)
                print(json.dumps(run, indent=1)[:3000])
            finally:
                print(log.read_text()[-400000:])
                for d in (home.state / "run").iterdir():
                    for n in ("out", "err"):
                        if (d / n).exists():
                            print("---", n, (d / n).stat().st_size)
                            print((d / n).read_text()[:3000])
                            print("....")
                            print((d / n).read_text()[-4000:])
                print(
                    subprocess.run(
                        ["find", str(home.root / "home"), "-newer", str(log), "-maxdepth", "3"],
                        capture_output=True,
                        text=True,
                    ).stdout[:3000]
                )
                print(
                    subprocess.run(
                        "ps -ef | grep -i [c]line-hub", shell=True, capture_output=True, text=True
                    ).stdout
                )
            assert run["outcome"] == "succeeded"
