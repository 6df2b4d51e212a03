"""Which environment variables may reach a CLI, and which never do."""

from __future__ import annotations

#: What a program needs to run as its user, in their language, through their proxy.
ALLOWED = frozenset(
    {
        *("HOME", "PATH", "LANG", "LANGUAGE", "TERM", "TZ", "USER", "LOGNAME", "SHELL"),
        *("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"),
        *("XDG_CONFIG_DIRS", "XDG_DATA_DIRS"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
        "NODE_EXTRA_CA_CERTS",
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
        *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    }
)
ALLOWED_PREFIXES = ("LC_",)

#: They make a loader, an interpreter, a shell or git run code or follow somebody else's settings.
_LOADERS = frozenset(
    {
        *("NODE_OPTIONS", "NODE_PATH", "NODE_REPL_EXTERNAL_MODULE", "BUN_OPTIONS", "DENO_DIR"),
        *("PERL5LIB", "PERL5OPT", "PERL5DB", "PERLLIB", "RUBYOPT", "RUBYLIB", "LUA_INIT"),
        *("JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS", "CLASSPATH"),
        *("BASH_ENV", "ENV", "SHELLOPTS", "BASHOPTS", "PS4", "PROMPT_COMMAND", "ZDOTDIR", "IFS"),
        *("GLIBC_TUNABLES", "GCONV_PATH", "LOCPATH", "HOSTALIASES", "OPENSSL_CONF"),
    }
)
_LOADER_PREFIXES = ("LD_", "DYLD_", "PYTHON", "GIT_", "BASH_FUNC_", "LUA_INIT_")
#: Ours: told to each run anew. What the coordinator itself was given stays with it.
OWN_PREFIX = "AIAGENT_"


def never_passes(name: str) -> bool:
    """Whether a variable is withheld whoever asks for it."""
    return name in _LOADERS or name.startswith((*_LOADER_PREFIXES, OWN_PREFIX))


def is_allowed(name: str) -> bool:
    """Whether a variable passes without being asked for."""
    return name in ALLOWED or name.startswith(ALLOWED_PREFIXES)
