# SPDX-License-Identifier: GPL-2.0-or-later
"""
Signatures of S3 (AWS Signature Version 4), looked at as a server does: in the header Authorization, or in the
query of a signed URL.
"""

import hashlib
import hmac
import urllib.parse


def _hmac(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def signed(method, target, headers, access, secret):
    """Whether a request was signed by who knows the secret: method, path, query and headers, as they are."""
    path, _, query = target.partition("?")
    fields = [tuple(urllib.parse.unquote(part) for part in field.partition("=")[::2])
              for field in query.split("&") if field]
    named = dict(fields)
    if "X-Amz-Signature" in named:
        credential, names = named["X-Amz-Credential"], named["X-Amz-SignedHeaders"]
        signature, date = named["X-Amz-Signature"], named["X-Amz-Date"]
        body = "UNSIGNED-PAYLOAD"
    else:
        kind, _, rest = headers.get("Authorization", "").partition(" ")
        if kind != "AWS4-HMAC-SHA256":
            return False
        said = dict(part.strip().split("=", 1) for part in rest.split(","))
        credential, names, signature = said["Credential"], said["SignedHeaders"], said["Signature"]
        date, body = headers["X-Amz-Date"], headers["X-Amz-Content-SHA256"]
    who, scope = credential.split("/", 1)
    if who != access or "host" not in names.split(";"):
        return False

    def quote(text):
        return urllib.parse.quote(text, safe="-_.~")

    canonical = "\n".join([
        method, path,
        "&".join(sorted(f"{quote(k)}={quote(v)}" for k, v in fields if k != "X-Amz-Signature")),
        *(f"{name}:{' '.join(headers.get(name, '').split())}" for name in names.split(";")),
        "", names, body])
    key = ("AWS4" + secret).encode()
    for part in scope.split("/"):
        key = _hmac(key, part)
    text = "\n".join(["AWS4-HMAC-SHA256", date, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    return hmac.compare_digest(_hmac(key, text).hex(), signature)
