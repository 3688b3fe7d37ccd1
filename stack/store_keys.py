"""The keys of the store's inner doors: new ones for each start, in a folder that only its owner can open.

SeaweedFS is several programs in one, which talk over ports of this machine (gRPC and HTTP) that know no password: who
reaches them reads every object and makes keys of an administrator. With what is written here each of them asks for a
certificate that only this start of the store has. The key that signed it is kept nowhere.

A program of its own too, for the image of the store: `store_keys.py FOLDER COMMAND…` makes the keys, then becomes the
command. It needs `cryptography` and nothing of this package.
"""

import datetime
import ipaddress
import json
import os
import secrets
import shutil
import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

# As SeaweedFS names its parts in security.toml. A part that is left out would listen without asking for anything.
GRPC_PARTS = ("volume", "master", "filer", "s3", "msg_broker", "msg_agent", "admin", "worker", "mq", "client")
HTTPS_PARTS = ("volume", "master", "filer", "admin")
SIGNED = ("jwt.signing", "jwt.signing.read", "jwt.filer_signing", "jwt.filer_signing.read")

# They end with the process that they are made for; no clock, however wrong, ends them earlier.
_VALID_FROM, _VALID_TO = datetime.datetime(2000, 1, 1), datetime.datetime(2200, 1, 1)


def make(folder: Path) -> None:
    """Writes new keys and the security.toml that names them, in place of whatever the folder held.

    A store that runs with the old ones must not be running any more.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700)
    signer = ec.generate_private_key(ec.SECP256R1())
    key = ec.generate_private_key(ec.SECP256R1())
    own = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    written = {
        "signer.pem": _certificate("signer", signer.public_key(), signer, x509.BasicConstraints(True, 0)),
        "certificate.pem": _certificate("store", key.public_key(), signer, own),
        "key.pem": key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
        "security.toml": security(folder.absolute()).encode(),
    }
    for name, content in written.items():
        descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)


def _certificate(
    name: str, public: ec.EllipticCurvePublicKey, signer: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType
) -> bytes:
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name("signer"))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_VALID_FROM)
        .not_valid_after(_VALID_TO)
        .add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
    )
    return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def security(folder: Path) -> str:
    """The security.toml: who comes without the certificate is turned away, on each port and for each file."""

    def path(name: str) -> str:
        return json.dumps(str(folder / name), ensure_ascii=False)

    pair = f"cert = {path('certificate.pem')}\nkey = {path('key.pem')}\n"
    signer = f"ca = {path('signer.pem')}\n"
    return "".join(
        [
            f"[grpc]\n{signer}",
            *(f"[grpc.{part}]\n{pair}" for part in GRPC_PARTS),
            f"[https.client]\nenabled = true\n{pair}{signer}",
            *(f"[https.{part}]\n{pair}{signer}" for part in HTTPS_PARTS),
            *(f'[{name}]\nkey = "{secrets.token_hex(32)}"\n' for name in SIGNED),
        ]
    )


if __name__ == "__main__":
    os.umask(0o077)  # SeaweedFS makes sockets too
    make(Path(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
