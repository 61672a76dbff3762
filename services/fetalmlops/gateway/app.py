"""The application: routes, who may call them, and what is said of them in OpenAPI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from fastapi import Depends, FastAPI, Query, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response

from fetalmlops import __version__
from fetalmlops.gateway import answers
from fetalmlops.gateway.accounts import NOBODY
from fetalmlops.gateway.answers import Explanation
from fetalmlops.gateway.classifying import identity_of
from fetalmlops.gateway.observing import note
from fetalmlops.gateway.problems import Problem, ProblemError, documented, problem_response
from fetalmlops.gateway.uploads import MEDIA_TYPES, media_type

if TYPE_CHECKING:
    from fastapi.telemetry import TelemetryConfig

    from fetalmlops.gateway.accounts import KeysFile
    from fetalmlops.gateway.classifying import Classifier
    from fetalmlops.gateway.uploads import Desk
    from fetalmlops.gateway.watching import ServedModel, Watch
    from fetalmlops.platform.health import Health

__all__ = ["make_app"]

_SUMMARY: Final = "Fetal standard planes of ultrasound images and clips. Not a medical device."
_JSON: Final = "application/json"
_FILE: Final = {"schema": {"type": "string", "format": "binary"}}
_REQUEST_BODY: Final = {
    "requestBody": {
        "required": True,
        "description": "The file itself: nothing around it. PNG and JPEG of 8 bits a sample.",
        "content": dict.fromkeys(MEDIA_TYPES, _FILE),
    }
}
_PARAMETERS: Final = frozenset({"explanation"})
_READ: Final = (401, 405, 500)
# The framework's own would tell whole URLs, and quote parameters and exceptions.
_NO_TELEMETRY: Final[TelemetryConfig] = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
_BEARER: Final = HTTPBearer(auto_error=False, description="A key that `fetalmlops keys gateway add` made.")


def make_app(
    classifier: Classifier, watch: Watch, desk: Desk, keys: KeysFile, health: Health, *, keyed: bool
) -> FastAPI:
    """Return the application.

    Parameters
    ----------
    classifier
        Classifies files.
    watch
        What serves.
    desk
        Admits files.
    keys
        The callers that count now.
    health
        Health of the process.
    keyed
        Whether a key is asked for although no caller has one.
    """
    routes = _Routes(classifier, watch, desk, keys, health, keyed=keyed)
    app = FastAPI(
        title="FetalMLOps",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry=_NO_TELEMETRY,
    )
    routes.add_to(app)
    app.add_exception_handler(ProblemError, _tell)
    app.add_exception_handler(HTTPException, _tell)
    app.add_exception_handler(RequestValidationError, _tell)
    app.add_exception_handler(Exception, _tell)
    return app


class _Routes:
    """What each route does."""

    def __init__(
        self, classifier: Classifier, watch: Watch, desk: Desk, keys: KeysFile, health: Health, *, keyed: bool
    ) -> None:
        self._classifier = classifier
        self._watch = watch
        self._desk = desk
        self._keys = keys
        self._health = health
        self._keyed = keyed
        self._contract = b""

    def add_to(self, app: FastAPI) -> None:
        """Add all routes to an application."""
        guarded = [Depends(self.authorise)]
        app.add_api_route(
            "/v1/classifications",
            self.classify,
            methods=["POST"],
            dependencies=guarded,
            response_model=answers.Classification,
            responses=documented(408, 413, 415, 422, 503, *_READ),
            openapi_extra=_REQUEST_BODY,
            operation_id="classify",
            summary="Classify a file",
        )
        app.add_api_route(
            "/v1/models",
            self.models,
            methods=["GET"],
            dependencies=guarded,
            response_model=answers.Models,
            responses=documented(503, *_READ),
            operation_id="models",
            summary="What serves",
        )
        app.add_api_route(
            "/metrics",
            self.metrics,
            methods=["GET"],
            dependencies=guarded,
            response_class=PlainTextResponse,
            responses=documented(*_READ),
            operation_id="metrics",
            summary="Metrics, for Prometheus",
        )
        waits: dict[int | str, dict[str, Any]] = {503: {"model": answers.Health, "description": "It waits."}}
        for path, answer, refused, summary in (
            ("/healthz", self.alive, {}, "Whether the process lives"),
            ("/readyz", self.ready, waits, "Whether it is able to classify"),
        ):
            app.add_api_route(
                path,
                answer,
                methods=["GET"],
                response_model=answers.Health,
                responses={**documented(405, 500), **refused},
                operation_id=path.strip("/"),
                summary=summary,
            )
        app.add_api_route(
            "/openapi.json",
            self.contract,
            methods=["GET"],
            response_class=JSONResponse,
            responses=documented(405, 500),
            operation_id="contract",
            summary="This description",
        )
        self._contract = msgspec.json.encode(_describe(app))

    async def authorise(
        self, request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)]
    ) -> None:
        """Refuse callers without a key (401), where keys are asked for."""
        accounts = self._keys.current()
        # Once asked for, always: the last key's removal must not open the door.
        self._keyed = self._keyed or bool(accounts.keys)
        account = accounts.find(credentials.credentials) if credentials else None
        if account is None and self._keyed:
            detail = (
                "Expected Authorization: Bearer and a key that is known, got none; ask who runs this gateway for one"
            )
            raise ProblemError(401, "key", detail, {"WWW-Authenticate": "Bearer"})
        note(request.scope, account=account or NOBODY)

    async def classify(
        self,
        request: Request,
        explanation: Annotated[
            Explanation,
            Query(description="`map`: the class-activation map in numbers; `overlay`: drawn over the frame."),
        ] = Explanation.NONE,
    ) -> Response:
        """De-identify a DICOM, PNG or JPEG file in memory, classify its frames and forget it."""
        if not _PARAMETERS.issuperset(request.query_params):
            raise _wrong_parameter(f"others than {', '.join(_PARAMETERS)}")
        kind = media_type(request)
        with self._desk.place() as place:
            data = await place.read(request)
            answer = await self._classifier.classify(data, kind, explanation, request.is_disconnected)
        return Response(answer.model_dump_json(), media_type=_JSON)

    async def models(self) -> Response:
        """Tell which models serve, and what is known of them."""
        served = [_served(model) for model in await self._watch.models()]
        return Response(answers.Models(models=served).model_dump_json(), media_type=_JSON)

    async def metrics(self) -> Response:
        """Return the metrics of this process."""
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    async def alive(self) -> Response:
        """Answer while the process lives, whatever it waits for."""
        return self._report(200)

    async def ready(self) -> Response:
        """Answer 503 while something is waited for."""
        return self._report(200 if self._health.ready else 503)

    async def contract(self) -> Response:
        """Return this description, OpenAPI 3.1."""
        return Response(self._contract, media_type=_JSON)

    def _report(self, status: int) -> Response:
        report = self._health.report()
        waiting = [item["for"] for item in report["waiting"]]
        answer = answers.Health(ready=report["ready"], waiting=waiting)
        return Response(answer.model_dump_json(), status, media_type=_JSON)


def _served(model: ServedModel) -> answers.Served:
    manifest = model.manifest
    use = manifest.evidence.intended_use
    return answers.Served(
        role=model.role,
        model=identity_of(model.identity),
        planes=manifest.planes,
        brain_planes=manifest.brain_planes,
        pipeline=manifest.pipeline.name,
        input_rows=manifest.input.rows,
        input_columns=manifest.input.columns,
        intended_use=use.text if use else "",
        not_available=[name for name in manifest.lacking if name != "embedding"],
        figures=answers.Figures(
            accept=manifest.decision.accept,
            accept_brain=manifest.decision.accept_brain,
            ood_limit=manifest.decision.ood_limit,
            temperature=manifest.calibration.temperature,
            metrics=manifest.metrics,
        ),
    )


async def _tell(request: Request, error: Exception) -> Response:
    problem = _as_problem(error)
    note(request.scope, reason=problem.reason)
    headers = request.headers
    has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    return problem_response(problem, unread=has_body and not getattr(request.state, "read", False))


def _as_problem(error: Exception) -> ProblemError:
    match error:
        case ProblemError():
            return error
        case RequestValidationError():
            names = ", ".join(sorted({str(item["loc"][-1]) for item in error.errors()}))
            return _wrong_parameter(f"another {names}")
        case HTTPException(status_code=404):
            return ProblemError(404, "not-found", "Expected a path of /openapi.json, got another; see there")
        case HTTPException(status_code=405):
            return ProblemError(405, "method", "Expected a method that this path knows, got another", error.headers)
        case HTTPException():
            return ProblemError(error.status_code, "request", "Expected a request that can be read, got another")
    return ProblemError(500, "defect", "Expected an answer, got a defect of the gateway; its log names the place")


def _wrong_parameter(found: str) -> ProblemError:
    return ProblemError(422, "parameter", f"Expected parameters as /openapi.json tells, got {found}; mend it")


def _describe(app: FastAPI) -> dict[str, Any]:
    described = get_openapi(
        title="FetalMLOps", version=__version__, summary=_SUMMARY, routes=app.routes, openapi_version="3.1.0"
    )
    schemas = described.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    return described
