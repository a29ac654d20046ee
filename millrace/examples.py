"""What `millrace up` prints once it is ready: ready-to-paste calls."""

_NO_KEY = "$MILLRACE_API_KEY"


def examples(url: str, kafka: str, topic_prefix: str, api_key: str | None) -> str:
    """`api_key` was just made for tenant `demo`; None: there are keys, and nobody here knows their secrets."""
    return "\n".join((_about_the_key(api_key), _curl(url, api_key), _sdk(url, api_key), _kcat(kafka, topic_prefix)))


def about_dashboard(url: str, operator_key: str | None) -> str:
    """`operator_key` was just made; the page takes it from the address, where no server and no log sees it."""
    if operator_key:
        return f"dashboard {url}/#key={operator_key}\n"
    return f"dashboard {url}\n  (sign in with a key; a new one: millrace keys create --operator)\n"


def _about_the_key(api_key: str | None) -> str:
    if api_key:
        return f"API key of tenant demo, shown this once: {api_key}\n"
    return f"The examples read your API key from {_NO_KEY}; a new one: millrace keys create --tenant demo\n"


def _curl(url: str, api_key: str | None) -> str:
    return f"""\
# curl
curl -s {url}/v1/chat/completions -H "Authorization: Bearer {api_key or _NO_KEY}" -H "Content-Type: application/json" \\
  -d '{{"model": "auto", "messages": [{{"role": "user", "content": "Where is my order?"}}]}}'
"""


def _sdk(url: str, api_key: str | None) -> str:
    secret = f'"{api_key}"' if api_key else 'os.environ["MILLRACE_API_KEY"]'
    imports = "from openai import OpenAI" if api_key else "import os\nfrom openai import OpenAI"
    return f"""\
# OpenAI Python SDK
{imports}
client = OpenAI(base_url="{url}/v1", api_key={secret})
messages = [{{"role": "user", "content": "Where is my order?"}}]
for chunk in client.chat.completions.create(model="auto", messages=messages, stream=True):
    print(chunk.choices[0].delta.content or "", end="", flush=True)
"""


def _kcat(kafka: str, prefix: str) -> str:
    return f"""\
# kcat, without HTTP: the key is tenant:idempotency_key; the answer comes on {prefix}responses under the same key
echo '{{"model": "auto", "messages": [{{"role": "user", "content": "Where is my order?"}}]}}' | \\
  kcat -P -b {kafka} -t {prefix}requests -k demo:order-42 -X partitioner=murmur2_random
kcat -C -b {kafka} -t {prefix}responses -o beginning -e -q -f '%k %s\\n'
"""
