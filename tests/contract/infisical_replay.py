"""Replays recorded exchanges against a server: same status, same keys and types, same words in errors.

Ids differ from run to run. What a recorded answer calls X and the live one Y is called Y in all that follows.
"""

from __future__ import annotations

import json
import re
import secrets
from pathlib import Path
from typing import Any

from tests.contract.infisical_server import Answer, Infisical

RECORDED = Path(__file__).parent / "data/infisical/recorded-2024.jsonl"
CLIENT_SECRETS = {"secretonce": {"numUsesLimit": 1}, "secretttl": {"ttl": 1}}
_NAMES = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|eyJ[\w.-]+")
"""What differs from run to run: ids and tokens."""


def recorded(*groups: str) -> list[dict[str, Any]]:
    """The exchanges of some groups, in their order."""
    lines = (json.loads(line) for line in RECORDED.read_text().splitlines())
    return [line for line in lines if line["group"] in groups]


def shape(value: Any) -> Any:
    """Keys and types; a list holds each shape that occurs in it once."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        shapes: list[Any] = []
        shapes += [one for one in map(shape, value) if one not in shapes]
        return [one for place, one in enumerate(shapes) if one not in shapes[:place]]
    names = {bool: "boolean", int: "number", float: "number", str: "string", type(None): "null"}
    return names[type(value)]


class Replay:
    """The names that the recording and this server use for the same things."""

    def __init__(self, server: Infisical) -> None:
        self.server = server
        self.names: dict[str, str] = {}
        self.placeholders = {"admin_password": "dummy-Password-1", "client_secret": secrets.token_hex(32)}
        self.clients: dict[str, str] = {}

    def setup(self, exchange: dict[str, Any]) -> str:
        """Replay one exchange of the setup, and learn from it; what is wrong with the answer, or nothing."""
        answer = self.send(exchange)
        self._learn(exchange.get("json"), answer.json)
        if exchange["id"] == "admin-signup":
            self.placeholders["admin_token"] = answer.json["token"]
        if exchange["id"] == "select-organization":
            self.placeholders["admin_token"] = answer.json["token"]
        if exchange["id"].startswith("attach-ua-"):
            self.clients[exchange["id"].removeprefix("attach-ua-")] = exchange["request"]["path"]
        return self.difference(exchange, answer)

    def enrol(self) -> None:
        """Give every identity of the setup its client secret, as the recording did between its lines."""
        for name, path in self.clients.items():
            body = {"description": "", "numUsesLimit": 0, "ttl": 0, **CLIENT_SECRETS.get(name, {})}
            token = self.placeholders["admin_token"]
            answer = self.server.ask("POST", self._live(path) + "/client-secrets", body, token)
            self.placeholders[f"{name}.client_secret"] = answer.json["clientSecret"]

    def send(self, exchange: dict[str, Any]) -> Answer:
        request = exchange["request"]
        raw: bytes | None = None
        if "json" in request:
            raw = json.dumps(_repeated(json.loads(self._live(json.dumps(request["json"]))))).encode()
        elif "raw" in request:
            raw = self._live(request["raw"]).encode()
        elif "hex" in request:
            raw = bytes.fromhex(request["hex"])
        headers = {name: self._live(value) for name, value in request["headers"].items()}
        return self.server.ask(request["method"], self._live(request["path"]), headers=headers, raw=raw)

    def difference(self, exchange: dict[str, Any], answer: Answer) -> str:
        """What is not as recorded, or nothing."""
        if exchange["id"] == "token-renew-ok":
            del self.placeholders["writer.access_token"]  # refused, and the token is gone: the recording took a new one
        if "etag" in exchange:
            self.names[exchange["etag"]] = answer.headers["etag"]
        if answer.status != exchange["status"]:
            return f"status {answer.status} instead of {exchange['status']}: {json.dumps(answer.json)[:300]}"
        if exchange.get("shape") == "any":
            return ""
        if "json" in exchange and (answer.status or 0) >= 400:
            wanted, found = json.loads(self._live(json.dumps(exchange["json"]))), answer.json
        else:
            wanted = exchange["shape"] if "shape" in exchange else shape(exchange.get("json"))
            found = shape(answer.json)
        return "" if wanted == found else f"{json.dumps(found)[:700]} instead of {json.dumps(wanted)[:700]}"

    def _learn(self, old: Any, new: Any) -> None:
        if isinstance(old, dict) and isinstance(new, dict):
            for key in old.keys() & new.keys():
                self._learn(old[key], new[key])
        elif isinstance(old, list) and isinstance(new, list):
            for one, other in zip(old, new, strict=False):
                self._learn(one, other)
        elif isinstance(old, str) and isinstance(new, str) and _NAMES.fullmatch(old):
            self.names[old] = new

    def _live(self, text: str) -> str:
        for old, new in self.names.items():
            text = text.replace(old, new).replace(json.dumps(old)[1:-1], json.dumps(new)[1:-1])
        return re.sub(r"\{\{([\w.]+)}}", lambda match: self._placeholder(match.group(1)), text)

    def _placeholder(self, name: str) -> str:
        if name not in self.placeholders:
            # A token: of the identity of that name, or one of the writer's that is to be spoiled.
            owner = name.partition(".")[0]
            owner = owner if owner in self.clients else "writer"
            path = self._live(self.clients[owner])
            client = self.server.ask("GET", path, token=self.placeholders["admin_token"]).json["identityUniversalAuth"]
            body = {"clientId": client["clientId"], "clientSecret": self.placeholders[f"{owner}.client_secret"]}
            self.placeholders[name] = self.server.ask("POST", "/api/v1/auth/universal-auth/login", body).json[
                "accessToken"
            ]
        return self.placeholders[name]


def _repeated(body: Any) -> Any:
    """A body whose long value is written as `{"repeat": sign, "times": number}`."""
    if isinstance(body, dict) and body.keys() == {"repeat", "times"}:
        return body["repeat"] * body["times"]
    return {key: _repeated(value) for key, value in body.items()} if isinstance(body, dict) else body
