"""The routes of the original's page and programs."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from talkverse_jax.serve.http.admission import Admission
from talkverse_jax.serve.http.blocking import Blocking
from talkverse_jax.serve.http.errors import Fault
from talkverse_jax.serve.http.field_table import LONGEST_PROMPT, Field
from talkverse_jax.serve.http.forms import MULTIPART, Form
from talkverse_jax.serve.http.helping import RequestHelpers
from talkverse_jax.serve.http.inputs import Looker, WantedFile
from talkverse_jax.serve.http.original import stream_of, translated
from talkverse_jax.serve.http.router import Handler
from talkverse_jax.serve.http.scratch import checked, scratch_form
from talkverse_jax.serve.http.setup import Setup
from talkverse_jax.serve.http.video_routes import NO_STORE, VideoRoutes

_ENHANCE = (
    Field("image", "reference"),
    Field("audio", "reference"),  # its size is checked, no more
    Field("user_prompt", "string", least=0, most=LONGEST_PROMPT),
)


class OriginalRoutes:
    """`/infer`, `/enhance` and the address of a finished video."""

    def __init__(
        self, setup: Setup, admission: Admission, looker: Looker, helpers: RequestHelpers, videos: VideoRoutes
    ):
        self._setup, self._admission, self._looker, self._helpers = setup, admission, looker, helpers
        self._videos = videos
        self._blocking = Blocking(setup)

    def table(self) -> dict[str, dict[str, Handler]]:
        return {
            "/infer": {"POST": Handler(self._infer, makes=True)},
            "/enhance": {"POST": Handler(self._enhance, makes=True)},
            "/static/outputs/{id}.mp4": {"GET": Handler(self._output), "HEAD": Handler(self._output)},
        }

    async def _infer(self, request: Request) -> Response:
        stream = "1"

        def translate(form: Form) -> tuple[Form, tuple[str, ...]]:
            nonlocal stream
            stream = stream_of(form)
            return translated(form, self._setup.fields)

        admitted = await self._admission.submit(request, request.scope["owner"], (MULTIPART,), translate)
        record = await self._blocking.wait(request, admitted)
        if stream == "1":
            response = await self._videos.video(request, record)
            response.headers["X-Video-Id"] = record.id
            return response
        settings = record.submission.settings
        url = f"{request.scope['scheme']}://{request.headers['host']}/static/outputs/{record.id}.mp4"
        told = {"video_url": url, "seed": settings["base_seed"], "size_bucket": settings.get("size_bucket")}
        return JSONResponse(told | {"id": record.id}, headers=NO_STORE)

    async def _output(self, request: Request) -> Response:
        return await self._videos.video(request, await self._videos.record(request))

    async def _enhance(self, request: Request) -> Response:
        if self._setup.enhancer is None:
            raise Fault("not_enabled", "prompts are not improved here (--prompt_extend_url)")
        async with scratch_form(self._setup, request, MULTIPART) as (form, folder):
            values, name = checked(form, _ENHANCE, {}, "user_prompt"), None
            if "image" in values:
                given = WantedFile("image", values["image"], "image", ("picture", "film"))
                await self._looker.take(given, folder)
                name = "image"
            better = await self._helpers.enhance(values["user_prompt"], folder, name, param="image")
        told = {"visual_caption": better.prompt, "audio_caption": "", "combined": better.prompt}
        return JSONResponse(told, headers=NO_STORE)
