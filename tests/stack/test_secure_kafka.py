"""Every client of every service speaks TLS and SASL when the settings say so."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
import trustme
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from contracts.catalogue import load_catalogue
from contracts.settings import Settings
from contracts.topics import all_topics
from millrace.kafka_broker import KafkaBroker
from millrace.kafka_config import HOST
from millrace.kafka_runtime import KafkaRuntime
from millrace.keys import create_key
from millrace.ports import free_port
from millrace.topic_admin import ensure_topics
from tests.support.commands import Command
from tests.support.until import until

pytestmark = pytest.mark.stack
PASSWORD = "not-in-any-log"
JAAS = (
    "org.apache.kafka.common.security.plain.PlainLoginModule required "
    f'username="millrace" password="{PASSWORD}" user_millrace="{PASSWORD}";'
)


class SecureBroker(KafkaBroker):
    """A second listener with TLS and SASL/PLAIN beside the plain one, which only its own readiness check uses."""

    def __init__(self, runtime: KafkaRuntime, folder: Path, certificates: Path) -> None:
        super().__init__(runtime, folder)
        self.secure_port = free_port()
        self._certificates = certificates

    def _write_files(self) -> None:
        super()._write_files()
        path = self._files.server_properties
        text = path.read_text()
        for name in ("listeners", "advertised.listeners"):
            text = text.replace(f"\n{name}=", f"\n{name}=SASL_SSL://{HOST}:{self.secure_port},")
        secure = {
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL",
            "inter.broker.listener.name": "PLAINTEXT",
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.sasl_ssl.plain.sasl.jaas.config": JAAS,
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": self._certificates / "broker.pem",
        }
        path.write_text(text + "".join(f"{name}={value}\n" for name, value in secure.items()))


@pytest.fixture
async def secure(kafka_runtime: KafkaRuntime, tmp_path: Path) -> AsyncIterator[dict[str, object]]:
    """Settings, as the environment has them, for a Kafka that lets in nobody without a password."""
    _write_certificates(tmp_path)
    broker = SecureBroker(kafka_runtime, tmp_path / "kafka", tmp_path)
    await broker.start()
    yield {
        "kafka_bootstrap_servers": f"{HOST}:{broker.secure_port}",
        "kafka_security_protocol": "SASL_SSL",
        "kafka_ssl_cafile": tmp_path / "ca.pem",
        "kafka_sasl_mechanism": "PLAIN",
        "kafka_sasl_username": "millrace",
        "kafka_sasl_password": PASSWORD,
        "ingress_port": free_port(),
        "analytics_port": free_port(),
        "streams_state_dir": tmp_path / "streams",
        "clickhouse_path": tmp_path / "clickhouse",
    }
    await broker.stop()


def _write_certificates(folder: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert(HOST)
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    key = load_pem_private_key(certificate.private_key_pem.bytes(), password=None)
    pkcs8 = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())  # the only form that Java reads
    chain = b"".join(part.bytes() for part in certificate.cert_chain_pems)
    (folder / "broker.pem").write_bytes(pkcs8 + chain)


async def test_a_request_passes_through_a_kafka_with_tls_and_sasl(secure: dict[str, object]) -> None:
    settings = Settings(**secure)  # type: ignore[arg-type]
    await ensure_topics(settings, all_topics(settings, load_catalogue()))
    headers = {"Authorization": f"Bearer {(await create_key(settings, 'acme')).secret}"}
    environment = {f"MILLRACE_{name.upper()}": value for name, value in secure.items()}
    async with AsyncExitStack() as stack:
        for service in ("ingress", "streams", "worker", "analytics"):
            command = await Command.start("millrace", service, environment=environment)
            stack.push_async_callback(command.discard)
        http = await stack.enter_async_context(httpx.AsyncClient(headers=headers, timeout=60))
        for port in (settings.ingress_port, settings.analytics_port):
            await _answers(http, f"http://{HOST}:{port}/readyz")
        body = {"model": "small", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 5}
        answer = await http.post(f"http://{HOST}:{settings.ingress_port}/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text

        async def billed() -> bool:
            sql = "SELECT sum(completion_tokens) FROM millrace.usage"
            found = await http.get(f"http://{HOST}:{settings.analytics_port}/", params={"query": sql})
            return found.text.strip() == "5"

        await until(billed)


async def _answers(http: httpx.AsyncClient, url: str) -> None:
    async def ready() -> bool:
        try:
            return (await http.get(url)).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    await until(ready)
