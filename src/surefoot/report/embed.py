"""How a chart gets into a page that fetches nothing: as a picture, as data, and with the program that draws it live.

The program is that of Vega-Embed, out of the vl-convert wheel. Making it takes seconds, so it is kept in the user's
cache, by version, with its SHA-256.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import platformdirs
import vl_convert

from surefoot.record.store import write_bytes
from surefoot.report.charts import drawable


def svg(chart: dict[str, Any]) -> str:
    """Return a Vega-Lite specification as SVG."""
    return vl_convert.vegalite_to_svg(drawable(chart))


def data_uri(content: bytes, kind: str) -> str:
    """Return content as an address that holds it; in an image, scripts inside an SVG do not run.

    >>> data_uri(b"<svg/>", "image/svg+xml")
    'data:image/svg+xml;base64,PHN2Zy8+'
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def in_script(value: Any) -> str:
    r"""Return JSON that can stand inside a script element: nothing in it can end the element.

    >>> in_script("</script><!--")
    '"\\u003c/script\\u003e\\u003c!--"'
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def hashed(text: str) -> str:
    """Return what a content security policy calls an inline script or style.

    >>> hashed("")
    "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
    """
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def program() -> str:
    """Return the JavaScript that draws Vega-Lite charts, safe to stand inside a script element."""
    given = os.environ.get("SUREFOOT_CACHE")
    folder = Path(given).expanduser() if given else platformdirs.user_cache_path("surefoot", appauthor=False)
    kept, proof = (folder / f"vega-{version('vl-convert-python')}{end}" for end in (".js", ".sha256"))
    with contextlib.suppress(OSError):
        found = kept.read_bytes()
        if hashlib.sha256(found).hexdigest() == proof.read_text(encoding="ascii").strip():
            return found.decode()
    bundle = vl_convert.javascript_bundle()  # pyright: ignore[reportCallIssue]  # its stub asks for what it does not need
    made = bundle.replace("</script", "<\\/script").replace("<!--", "<\\!--")
    with contextlib.suppress(OSError):  # a home that cannot be written costs time, not the report
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(kept, made.encode())
        write_bytes(proof, hashlib.sha256(made.encode()).hexdigest().encode())
    return made
