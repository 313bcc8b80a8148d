"""The page of ``make app``: a picture, a text, a verdict. It loads nothing from other hosts."""

from __future__ import annotations

import ipaddress
import os
import socket
from pathlib import Path
from typing import Any

from PIL import Image

from schemas import TableError, open_table
from training.errors import DataError, UsageError
from training.inference.detector import Detector
from training.inference.overlay import boxed, open_picture
from training.inference.panel import STYLE, panel, problem

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when Gradio is imported

_EXAMPLES = (
    "orig",
    "face_swap",
    "face_attribute",
    "text_attribute",
    "text_swap",
    "face_swap&text_attribute",
)
_FONTS = ["system-ui", "Segoe UI", "Roboto", "Helvetica", "Arial", "sans-serif"]
_FONTS_MONO = ["ui-monospace", "Consolas", "monospace"]
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:"
)
_CSS = """
.gradio-container { max-width: 1180px !important; margin: 0 auto !important; }
footer { display: none !important; }
"""
_HOUR, _DAY = 3600, 86400
_LOOPBACK_NAMES = ["localhost", "127.0.0.1", "[::1]"]


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def judge(detector: Detector, image: str | None, text: str | None) -> tuple[Image.Image | None, str]:
    """Return the picture with its box, and the verdict as HTML; or no picture, and why there is none."""
    if not image:
        return None, problem("Give a picture: drop a file on the left, or click there to choose one.")
    try:
        verdict = detector(image, text or "")
        return boxed(open_picture(image), verdict), panel(verdict)
    except DataError as error:
        # A visitor has no use for the path of the temporary file.
        return None, problem(str(error).replace(str(Path(image).parent) + os.sep, ""))


def read_examples(out: Path, split: str = "test") -> list[list[str]]:
    """Return picture and text of one sample per kind of manipulation.

    Args:
        out: Folder of the tables.
        split: Split the samples are taken from.

    Raises:
        UsageError: There are no tables, no pictures, or no such samples.
    """
    found: dict[str, list[str]] = {}
    try:
        table = open_table(out, "samples")
        root = Path(str(table.info.get("image_root", "")))
        for batch in table.batches(["image_path", "text", "fake_cls"], split=split):
            for row in batch.to_pylist():
                kind = row["fake_cls"]
                if kind in _EXAMPLES and kind not in found and (root / row["image_path"]).is_file():
                    found[kind] = [str(root / row["image_path"]), row["text"]]
            if len(found) == len(_EXAMPLES):
                break
    except TableError as error:
        raise UsageError(f"--examples {out}: {error}") from None
    if not found:
        raise UsageError(f"--examples {out}: no pictures of split {split} under {root}")
    return [found[kind] for kind in _EXAMPLES if kind in found]


def build_page(detector: Detector, examples: list[list[str]]) -> Any:
    """Return the page as Gradio blocks.

    Args:
        detector: Judges what is given.
        examples: Picture file and text of each.
    """
    import gradio as gr

    # What visitors upload is deleted after a day, and when the server ends.
    with gr.Blocks(title="Was it manipulated?", analytics_enabled=False, delete_cache=(_HOUR, _DAY)) as page:
        gr.Markdown("# Was it manipulated?\nA picture and the text shown with it, judged together.")
        with gr.Row():
            with gr.Column(scale=5):
                image = gr.Image(
                    type="filepath",
                    label="Picture",
                    sources=["upload", "clipboard"],
                    height=340,
                    elem_id="picture",
                )
                text = gr.Textbox(
                    label="Text shown with it",
                    lines=3,
                    max_length=5000,
                    elem_id="text",
                    placeholder="The news text",
                )
                button = gr.Button("Judge", variant="primary", elem_id="judge")
            with gr.Column(scale=6):
                shown = gr.Image(
                    label="What was found",
                    interactive=False,
                    format="png",
                    height=420,
                    elem_id="found",
                    buttons=[],
                )
                said = gr.HTML(elem_id="verdict")
        if examples:
            gr.Examples(examples, [image, text], label="Examples", cache_examples=False)
        gr.Markdown(
            f"Model: {detector.source.config.name}. A probability is a hint, not evidence: the model knows "
            "the manipulations it was trained on and nothing else."
        )
        for event in (button.click, text.submit):
            event(
                lambda picture, words: judge(detector, picture, words),
                [image, text],
                [shown, said],
                api_name="judge",
                concurrency_limit=1,
            )
    return page


def serve(detector: Detector, examples: list[list[str]], host: str, port: int) -> None:
    """Serve the page until SIGINT or SIGTERM.

    Args:
        detector: Judges what is given.
        examples: From `read_examples`.
        host: Address to listen on.
        port: TCP port; 0: any free one. The address is printed.

    Raises:
        UsageError: The address or the port cannot be used, or Gradio is not installed.
    """
    try:
        import gradio as gr
        import uvicorn
        from fastapi import FastAPI, Request
        from starlette.middleware.trustedhost import TrustedHostMiddleware
    except ImportError as error:
        raise UsageError(f"the page needs Gradio ({error}): make setup, or pip install gradio") from None

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        raise UsageError(f"cannot listen on {host}, port {port}: {error}; choose --port or --host") from None
    server = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @server.middleware("http")
    async def forbid_other_hosts(request: Request, call_next: Any) -> Any:
        response = await call_next(request)
        response.headers["Content-Security-Policy"] = _POLICY
        return response

    if is_loopback(host):
        # Otherwise a web site whose name is made to point here could use the page through a browser.
        names = sorted({*_LOOPBACK_NAMES, f"[{host}]" if ":" in host else host})
        server.add_middleware(TrustedHostMiddleware, allowed_hosts=names, www_redirect=False)
    page = build_page(detector, examples)
    # Only launch() sets this, and until it is set Gradio hands out any file that a request names.
    page.has_launched = True
    gr.mount_gradio_app(
        server,
        page,
        path="/",
        footer_links=[],
        ssr_mode=False,
        enable_monitoring=False,
        max_file_size="32mb",
        theme=gr.themes.Default(font=_FONTS, font_mono=_FONTS_MONO),
        css=_CSS + STYLE,
    )
    name = f"[{host}]" if ":" in host else host
    print(f"http://{name}:{listening.getsockname()[1]}  (Ctrl-C ends it)", flush=True)
    uvicorn.Server(uvicorn.Config(server, log_level="warning", ws="none")).run(sockets=[listening])
