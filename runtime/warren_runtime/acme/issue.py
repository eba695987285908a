"""One order at the CA, by certbot's library. Synchronous: run it in a thread of its own."""

from __future__ import annotations

import datetime
import json
import ssl
from typing import Any, Final

import requests
from acme import challenges as kinds
from acme import client, crypto_util, errors, messages
from cryptography.hazmat.primitives.asymmetric import ec
from josepy.errors import Error as JoseError
from josepy.jwa import ES256
from josepy.jwk import JWK, JWKEC
from josepy.util import ComparableECKey
from requests.adapters import HTTPAdapter

from warren_runtime.key_files import write_private
from warren_runtime.tls import TlsError, client_context
from warren_wire import __version__

from .challenges import ChallengeFolder
from .errors import AcmeError
from .settings import AcmeSettings
from .storage import AcmeFolder, private_pem

_REQUEST_SECONDS: Final = 30
_ORDER_SECONDS: Final = 120
_NONCE_RETRIES: Final = 2


# The library dropped this kind with its own TLS server; its registry takes others.
@kinds.ChallengeResponse.register
class TlsAlpn01Response(kinds.KeyAuthorizationChallengeResponse):
    typ = "tls-alpn-01"


@kinds.Challenge.register
class TlsAlpn01(kinds.KeyAuthorizationChallenge):
    typ = "tls-alpn-01"
    response_cls = TlsAlpn01Response

    def validation(self, account_key: JWK, **_unused: Any) -> str:
        return self.key_authorization(account_key)


def issue(settings: AcmeSettings, folder: AcmeFolder, challenges: ChallengeFolder) -> bytes:
    """Key and chain in PEM for the names of the settings (`AcmeError`)."""
    try:
        return _order_with_retries(settings, folder, challenges)
    except errors.ValidationError as error:
        raise AcmeError(_failed_checks(error)) from error
    except messages.Error as error:
        raise AcmeError(_refusal(error), limited=error.code == "rateLimited") from error
    except errors.TimeoutError as error:
        raise AcmeError("the certificate authority did not finish in time") from error
    except (errors.Error, JoseError) as error:
        raise AcmeError(
            f"the certificate authority answered oddly: {error or type(error).__name__}"
        ) from error
    except requests.RequestException as error:
        raise AcmeError(f"{settings.directory_url} cannot be used: {_innermost(error)}") from error
    except (TlsError, OSError, ValueError) as error:
        raise AcmeError(f"no order can be made: {error}") from error
    finally:
        challenges.clear()


def _order_with_retries(settings: AcmeSettings, folder: AcmeFolder, challenges: ChallengeFolder) -> bytes:
    """CAs of many machines forget nonces; the library asks for another one only once a request."""
    for _ in range(_NONCE_RETRIES):
        try:
            return _order(_client(settings, folder), settings, challenges)
        except messages.Error as error:
            if error.code != "badNonce":
                raise
    return _order(_client(settings, folder), settings, challenges)


class _Adapter(HTTPAdapter):
    """Trusts what the rest of the service trusts, and a private CA beside it."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **{**kwargs, "ssl_context": self._context})


def _client(settings: AcmeSettings, folder: AcmeFolder) -> client.ClientV2:
    key = _account_key(folder)
    net = client.ClientNetwork(key, alg=ES256, user_agent=f"warren/{__version__}", timeout=_REQUEST_SECONDS)
    net.session.mount("https://", _Adapter(client_context(settings.ca_file)))
    directory = client.ClientV2.get_directory(settings.directory_url, net)
    found = client.ClientV2(directory, net)
    account = messages.NewRegistration(
        contact=tuple(f"mailto:{contact}" for contact in settings.contacts),
        terms_of_service_agreed=True,
        external_account_binding=_binding(settings, key, directory),
    )
    try:
        found.new_account(account)
    except errors.ConflictError as known:
        # The CA knows the key already, and this is how it says under which address.
        net.account = messages.RegistrationResource(uri=known.location, body=messages.Registration())
    return found


def _account_key(folder: AcmeFolder) -> JWKEC:
    try:
        key = JWK.from_json(json.loads(folder.account.read_bytes()))
    except FileNotFoundError:
        key = JWKEC(key=ComparableECKey(ec.generate_private_key(ec.SECP256R1())))
        write_private(folder.account, key.json_dumps().encode())
    if not isinstance(key, JWKEC):
        raise AcmeError(f"{folder.account} holds another kind of key: move it away")
    return key


def _binding(settings: AcmeSettings, key: JWKEC, directory: messages.Directory) -> dict[str, Any] | None:
    account = settings.external_account
    if account is None:
        return None
    secret = account.key_file.read_text(encoding="ascii").strip()
    return messages.ExternalAccountBinding.from_data(key.public_key(), account.key_id, secret, directory)


def _order(found: client.ClientV2, settings: AcmeSettings, challenges: ChallengeFolder) -> bytes:
    key_pem = private_pem(ec.generate_private_key(ec.SECP256R1()))
    order = found.new_order(crypto_util.make_csr(key_pem, list(settings.names)))
    typ = TlsAlpn01.typ if settings.http_listen is None else kinds.HTTP01.typ
    for authorization in order.authorizations:
        if authorization.body.status == messages.STATUS_VALID:
            continue
        name = authorization.body.identifier.value
        offered = [each for each in authorization.body.challenges if each.chall.typ == typ]
        if not offered:
            raise AcmeError(f"the certificate authority does not offer {typ} for {name}")
        body = offered[0]
        account_key = found.net.key
        assert account_key is not None
        response = body.chall.response(account_key)
        if settings.http_listen is None:
            challenges.offer_certificate(name, response.key_authorization)
        else:
            challenges.offer_text(body.chall.encode("token"), response.key_authorization)
        found.answer_challenge(body, response)
    # The library compares with the local time, without a zone.
    deadline = datetime.datetime.now() + datetime.timedelta(seconds=_ORDER_SECONDS)  # noqa: DTZ005
    return key_pem + found.poll_and_finalize(order, deadline).fullchain_pem.encode()


def _failed_checks(error: errors.ValidationError) -> str:
    reasons = [
        f"{authorization.body.identifier.value}: {_refusal(challenge.error)}"
        for authorization in error.failed_authzrs
        for challenge in authorization.body.challenges
        if challenge.error is not None
    ]
    return f"the check of the name failed: {'; '.join(reasons)}"


def _innermost(error: BaseException) -> str:
    """The reason itself: three libraries wrap it."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return str(error) or type(error).__name__


def _refusal(error: messages.Error) -> str:
    parts = [error.detail or error.title or error.typ]
    parts += [
        f"{each.identifier.value}: {each.detail}" for each in error.subproblems or () if each.identifier
    ]
    return "; ".join(str(part) for part in parts)[:500]
