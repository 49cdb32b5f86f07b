"""One picture from the web."""

from __future__ import annotations

from igpt_tf.errors import UserError

LIMIT = 64 * 2**20
TIMEOUT = 20


def read_url(url: str) -> bytes:
    """The bytes at an http(s) address.

    Raises:
        UserError: if it cannot be reached, answers with an error or an HTML page, or is larger than 64 MiB.
    """
    import requests
    import urllib3

    try:
        with requests.get(url, stream=True, timeout=TIMEOUT, headers={"User-Agent": "igpt_tf"}) as answer:
            if not answer.ok:
                raise UserError(f"{url}: expected a picture, the server said {answer.status_code} {answer.reason}")
            kind = answer.headers.get("Content-Type", "")
            if kind.startswith("text/"):
                raise UserError(
                    f"{url}: expected a picture, found {kind.partition(';')[0]}; give the picture's own address"
                )
            data = bytearray()
            for chunk in answer.iter_content(2**16):
                data += chunk
                if len(data) > LIMIT:
                    raise UserError(f"{url}: expected at most {LIMIT // 2**20} MiB; download it and give the file")
    except UserError:
        raise
    # An address that is none can be a ValueError of either library under requests.
    except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
        reason = str(error.args[0] if error.args else error).splitlines()[0]
        raise UserError(
            f"{url}: cannot be read ({type(error).__name__}: {reason}); check the address and the network"
        ) from error
    return bytes(data)
