"""Declared secrets: what ``secrets`` in ``batten.yaml`` and ``stack_secrets`` in the inventory say, and what follows.

Short forms: ``NAME: {generator: alnum, length: 32}`` and ``NAME: {from: VARIABLE}``. All keys::

    NAME:
      generator: password         # characters, of `alphabet` if given (alnum: A-Z a-z 0-9, another word for password);
                                  # hex, base64, base64url: random bytes; uuid; keypair, ca, x509: made with openssl;
                                  # provided: a person puts it into Infisical
      length: 32                  # characters of a password, bytes of hex, base64 and base64url
      alphabet: abc...            # of a password
      from: VARIABLE              # the inventory's (vault) variable that gives it; with a generator: made unless given
      format: "sk_[a-z0-9]+"      # what a given value must match, whole
      ca: NAME                    # x509: the secret that signs it
      names: [postgres, 10.0.0.5] # x509: DNS names and IP addresses
      days: 90                    # x509: 90, ca: 3650; renewed at two thirds of it
      consumers: [SERVICE]        # or {SERVICE: {file: NAME} or {variable: NAME}}
      delivery: file              # or env_from_file or config (a template under services.SERVICE.secrets names it)
      rotation: KIND              # or {kind: KIND, reason: text}; else it follows from the secret's use
      expires: 90d                # a control fails when the value is older

A ``file`` lies at /run/secrets/NAME; an x509 is two, NAME.key and NAME.crt, a keypair NAME.key and NAME.pub, and of a
CA a consumer gets NAME.crt alone. ``env_from_file`` is for software that takes only environment variables: an
entrypoint before its own reads them from a file and execs, so that ``docker inspect`` shows none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from batten.plan import schema
from batten.plan.schema import At, Record

if TYPE_CHECKING:
    from batten.plan.definition import ServiceDefinition

KINDS = (
    *("postgres_role", "postgres", "pgbouncer", "redis", "infisical_identity"),
    *("tls", "restart", "provided", "none"),
)
MADE = ("password", "hex", "base64", "base64url", "uuid", "keypair", "ca", "x509")
# What the values of one secret are called besides its own name, and as which files a consumer gets them.
_FILES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "keypair": (("", ".key"), ("_public", ".pub")),
    "x509": (("", ".key"), ("_certificate", ".crt")),
    "ca": (("_certificate", ".crt"),),
}
_PARTS: Mapping[str, tuple[str, ...]] = {"keypair": ("_public",), "x509": ("_certificate",), "ca": ("_certificate",)}
_DERIVED: Mapping[str, tuple[str, ...]] = {"postgres_role": (".user", ".userlist"), "redis": (".acl",)}
ENVIRONMENT_FILE = "batten.env"
WRAPPER = ("/bin/sh", "-ec", f'set -a; . /run/secrets/{ENVIRONMENT_FILE}; set +a; exec "$@"', "batten")

_LEAST_BITS = 64
_LONGEST_ROLE = 61  # bytes: PostgreSQL cuts a name at 63 (NAMEDATALEN), and both logins would be one
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]+")  # RFC 3986, 2.3: the same in a URL, a shell and an ACL line
_RANDOM = ("password", "hex", "base64", "base64url")


@dataclass(frozen=True)
class Declaration:
    """One declared secret. ``rule`` is what the host is told, but for ``rotation``; ``at`` is where it stands.

    ``consumers`` maps services to ``{"file": NAME}``, ``{"variable": NAME}`` or, for a template, nothing.
    """

    rule: Mapping[str, Any]
    at: At
    consumers: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    rotation: str | None = None


def _regex(value: Any, at: At) -> str:
    text = schema.text(value, at)
    try:
        re.compile(text)
    except re.error as error:
        raise at.error(f"{text!r} is not a regular expression: {error}", "write one as Python's re has it") from error
    return text


def _delivery(value: Any, at: At) -> str:
    if value == "environment":
        raise at.error(
            "a secret in the environment is shown by docker inspect, and by docker compose config",
            "write delivery: file; or delivery: env_from_file for software that takes only environment variables",
        )
    return str(schema.choice("file", "env_from_file", "config")(value, at))


def _alphabet(value: Any, at: At) -> str:
    characters = "".join(sorted(set(schema.text(value, at))))
    if len(characters) < 2 or not characters.isprintable():
        raise at.error("an alphabet is two or more printable characters", "leave alphabet out for A-Z a-z 0-9")
    return characters


_ROTATION = Record({"kind": schema.choice(*KINDS), "reason": schema.text}, required=("kind",))


def _rotation(value: Any, at: At) -> str:
    checked = _ROTATION(value if isinstance(value, Mapping) else {"kind": value}, at)
    if checked["kind"] == "none" and "reason" not in checked:
        raise at.error("a secret that is never rotated needs a reason", 'write rotation: {kind: none, reason: "..."}')
    return str(checked["kind"])


_CONSUMER = Record({"file": schema.text, "variable": schema.pattern(r"[A-Za-z_][A-Za-z0-9_]*", "a variable's name")})


def _consumers(value: Any, at: At) -> dict[str, dict[str, str]]:
    if isinstance(value, (list, str)):
        return {name: {} for name in schema.list_of(schema.text)(value, at)}
    found: dict[str, dict[str, str]] = schema.map_of(lambda item, here: _CONSUMER(item or {}, here), keep_null=True)(
        value, at
    )
    for name, target in found.items():
        if len(target) > 1:
            raise at.key(name).error("a consumer takes a file or a variable", "write {file: NAME} or {variable: NAME}")
    return found


_SECRET = Record(
    {
        "generator": schema.choice("alnum", *MADE, "provided"),
        "length": schema.integer(8, 512),
        "alphabet": _alphabet,
        "from": schema.pattern(r"[A-Za-z_][A-Za-z0-9_]*", "a variable's name"),
        "format": _regex,
        "ca": schema.text,
        "names": schema.list_of(schema.pattern(r"[A-Za-z0-9*_:.-]+", "a DNS name or an IP address")),
        "days": schema.integer(1, 36500),
        "consumers": _consumers,
        "delivery": _delivery,
        "rotation": _rotation,
        "expires": schema.days,
    }
)


def declaration(value: Any, at: At) -> Declaration:
    """Check one declaration, as far as it can be without the others."""
    name = at.path.rpartition("secrets.")[2]
    if not _NAME.fullmatch(name):
        raise at.error(
            f"{name!r} cannot be a secret's name",
            f"use letters, digits, _ and -, for example {re.sub('[^A-Za-z0-9_-]+', '_', name)}",
        )
    checked = _SECRET(value, at)
    if "generator" not in checked and "from" not in checked:
        raise at.error("a secret is either made on the host or handed in", "write generator: alnum, or from: VARIABLE")
    generator = checked.get("generator", "provided")
    generator = "password" if generator == "alnum" else generator
    _check_keys(generator, checked, at)
    rule = {"generator": generator, **{key: checked[key] for key in _RULE_KEYS if key in checked}}
    if generator in _RANDOM:
        rule.setdefault("length", 32)
    if generator == "password" and "alphabet" in rule:
        _check_strength(rule, at)
    delivery = checked.get("delivery")
    consumers = {
        service: _target(name, target, delivery, at.key("consumers").key(service))
        for service, target in checked.get("consumers", {}).items()
    }
    return Declaration(rule, at, consumers, checked.get("rotation"))


_RULE_KEYS = ("length", "alphabet", "from", "format", "ca", "names", "days", "expires")
_ONLY: Mapping[str, tuple[str, ...]] = {
    "length": _RANDOM,
    "alphabet": ("password",),
    "ca": ("x509",),
    "names": ("x509",),
    "days": ("ca", "x509"),
}


def _check_keys(generator: str, checked: Mapping[str, Any], at: At) -> None:
    for key, generators in _ONLY.items():
        if key in checked and generator not in generators:
            raise at.key(key).error(
                f"{key} means nothing for the generator {generator}", f"leave it out, or use {' or '.join(generators)}"
            )
    if checked.get("generator") == "alnum" and "alphabet" in checked:
        raise at.key("alphabet").error("alnum is an alphabet already", "write generator: password")
    if "format" in checked and generator != "provided" and "from" not in checked:
        raise at.key("format").error(
            "a format is for a value that a person gives", "leave it out, or write generator: provided"
        )
    if generator == "x509":
        for key, sample in (("ca", "tls_ca"), ("names", "[SERVICE]")):
            if not checked.get(key):
                raise at.error(f"an x509 needs {key}", f"add {key}: {sample}")


def _check_strength(rule: Mapping[str, Any], at: At) -> None:
    bits = rule["length"] * math.log2(len(rule["alphabet"]))
    if bits < _LEAST_BITS:
        longer = math.ceil(_LEAST_BITS / math.log2(len(rule["alphabet"])))
        raise at.error(
            f"{rule['length']} characters of this alphabet are {bits:.0f} bits, and {_LEAST_BITS} are the least",
            f"write length: {longer}",
        )


def _target(name: str, target: Mapping[str, str], delivery: str | None, at: At) -> dict[str, str]:
    """Return how one consumer gets a secret, by its own key or by the secret's ``delivery``."""
    if delivery == "config":
        if target:
            raise at.error(
                "delivery: config takes the secret through a template", "leave the name out, or write delivery: file"
            )
        return {}
    if "variable" in target and delivery == "file":
        raise at.error("a variable is not a file", "write {file: NAME}, or delivery: env_from_file")
    if "file" in target and delivery == "env_from_file":
        raise at.error("a file is not a variable", "write {variable: NAME}, or delivery: file")
    if target:
        return dict(target)
    if delivery == "env_from_file":
        return {"variable": re.sub(r"\W", "_", name.upper())}
    return {"file": name}


def values_of(rules: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return every value that a template may name, with the secret that it is of."""
    found = {}
    for name, rule in rules.items():
        endings = ("", *_PARTS.get(rule["generator"], ()), *_DERIVED.get(rule["rotation"], ()))
        found.update({name + ending: name for ending in endings})
    return found


def rules(
    declared: Mapping[str, Declaration],
    postgres: Mapping[str, Any] | None,
    services: Mapping[str, ServiceDefinition],
) -> dict[str, dict[str, Any]]:
    """Return the rule of every secret (``module_utils/generators.py``), with the kind of its rotation.

    The two login roles of a role that owns a database take turns where ``services`` take the name of the current one,
    ``NAME.user``; who writes the role's own name keeps it, and its password changes in place.
    Raises BattenError for declarations that contradict one another or the use that ``postgres`` makes of them.
    """
    found = {}
    users = _postgres_users(postgres or {})
    named = {value for own in services.values() for source in own.secrets.values() for value in used_values(source)}
    for name, each in declared.items():
        use = users.get(name)
        role = use or ""
        derived = _derived(each.rule, use, bool({f"{name}.user", f"{name}.userlist"} & named))
        kind = each.rotation or derived
        if use:
            _check_postgres(name, each)
        if kind == "redis":
            _check_redis(name, each)
        if kind == "postgres_role" and not role:
            raise each.at.key("rotation").error(
                "postgres_role is for the password of a role that owns a database",
                "name the role under postgres.roles and postgres.databases, or leave rotation out",
            )
        if kind == "postgres_role":
            _check_turns(name, role, postgres or {}, each.at)
        if kind == "tls" and each.rule["generator"] not in ("x509", "ca", "provided"):
            raise each.at.key("rotation").error("tls is for certificates", "leave rotation out")
        if each.rule["generator"] == "provided" and kind not in ("provided", "none"):
            raise each.at.key("rotation").error(
                f"batten cannot make a new value of what a person provides, so its rotation is not {kind}",
                "leave rotation out, or name a generator beside from",
            )
        found[name] = {**each.rule, "rotation": kind, **({"role": role} if kind == "postgres_role" else {})}
    _check_between(declared)
    return found


def _check_turns(name: str, role: str, postgres: Mapping[str, Any], at: At) -> None:
    """Refuse what two login roles that take turns would break: the role itself cannot log in then."""
    fix = "give it a secret and a name of its own, or write rotation: postgres"
    if role == postgres.get("superuser", "postgres"):
        raise at.error(f"{role} is the administrator, and its login cannot take turns", "write rotation: postgres")
    if len(role.encode()) > _LONGEST_ROLE:
        raise at.error(f"the logins of {role}, {role}_a and {role}_b, are longer than 63 bytes", fix)
    for other, wanted in postgres["roles"].items():
        if other != role and wanted["secret"] == name:
            raise at.error(f"it is the password of {role}, whose logins take turns, and of {other}", fix)
        if other in (f"{role}_a", f"{role}_b"):
            raise at.error(f"postgres.roles has {other}, which is a login of {role}", fix)


def _postgres_users(postgres: Mapping[str, Any]) -> dict[str, str]:
    """Return the role whose password a secret is; "" for an administrator's."""
    owners = {database["owner"] for database in postgres.get("databases", {}).values()}
    found = {
        wanted["secret"]: role if role in owners else "" for role, wanted in sorted(postgres.get("roles", {}).items())
    }
    if "superuser_secret" in postgres:
        found[postgres["superuser_secret"]] = ""
    return found


def _derived(rule: Mapping[str, Any], role: str | None, follows: bool) -> str:
    """Return the rotation that follows from a secret's use: ``role`` is that of :func:`_postgres_users`, or None."""
    if rule["generator"] == "provided":
        return "provided"
    if role is not None:
        return "postgres_role" if role and follows else "postgres"
    if rule["generator"] == "x509":
        return "tls"
    # A CA is not replaced, but renewed on its key: what trusts it goes on to trust all that it signed.
    return "none" if rule["generator"] == "ca" else "restart"


def _check_postgres(name: str, each: Declaration) -> None:
    if each.rule["generator"] in ("keypair", "ca", "x509"):
        raise each.at.error(
            f"{name} is the password of a PostgreSQL role, and a key is none", "write generator: password"
        )
    if not each.rule.get("alphabet", "a").isascii():
        raise each.at.key("alphabet").error(
            f"{name} is the password of a PostgreSQL role, which must be printable ASCII", "take the others out"
        )


def _check_redis(name: str, each: Declaration) -> None:
    fits = each.rule["generator"] in ("hex", "uuid", "base64url") or (
        each.rule["generator"] == "password" and _UNRESERVED.fullmatch(each.rule.get("alphabet", "a"))
    )
    if not fits:
        raise each.at.error(
            f"{name} is a Redis password, which stands in URLs and ACL lines as it is",
            "use a password of letters, digits and . _ ~ -, or hex, base64url or uuid",
        )


def _check_between(declared: Mapping[str, Declaration]) -> None:
    for name, each in declared.items():
        for ending in _PARTS.get(each.rule["generator"], ()):
            if name + ending in declared:
                raise declared[name + ending].at.error(
                    f"{name} has a part of that name already", f"rename {name + ending}"
                )
        ca = each.rule.get("ca")
        if ca is None:
            continue
        if ca not in declared:
            raise each.at.key("ca").error(f"there is no secret {ca!r}", f"add {ca}: {{generator: ca}} under secrets")
        if declared[ca].rule["generator"] != "ca":
            raise each.at.key("ca").error(f"{ca} is no CA", f"write {ca}: {{generator: ca}}")


def deliver(
    declared: Mapping[str, Declaration], services: Mapping[str, ServiceDefinition], empty: ServiceDefinition
) -> dict[str, ServiceDefinition]:
    """Return ``services`` with what the declarations deliver to them; ``empty`` stands for one not yet spoken of.

    Raises BattenError where two things would have one name, and where a template was promised and is not there.
    """
    given = dict(services)
    for name, each in sorted(declared.items()):
        for service, target in each.consumers.items():
            at = each.at.key("consumers").key(service)
            own = given.get(service, empty)
            if "variable" in target:
                given[service] = _with_variable(own, target["variable"], _value(name, each.rule), at)
            elif "file" in target:
                given[service] = _with_files(own, target["file"], name, each.rule, at)
            elif not any(name in _owners(used, declared) for used in map(used_values, own.secrets.values())):
                raise at.error(
                    f"no template of {service} names {name}",
                    f'add services.{service}.secrets: {{FILE: {{template: "... ${{{name}}} ..."}}}}',
                )
    return {name: _with_environment(own) for name, own in given.items()}


def _owners(used: Collection[str], declared: Mapping[str, Declaration]) -> set[str]:
    """Return the secrets that some values are of."""
    parts = {
        name + ending: name
        for name, each in declared.items()
        for ending in (*_PARTS.get(each.rule["generator"], ()), ".user", ".userlist", ".acl")
    }
    return {parts.get(value, value) for value in used}


def _value(name: str, rule: Mapping[str, Any]) -> str:
    """A CA's key is for nobody."""
    return f"{name}_certificate" if rule["generator"] == "ca" else name


def _with_files(own: ServiceDefinition, file: str, name: str, rule: Mapping[str, Any], at: At) -> ServiceDefinition:
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", file) or file == ENVIRONMENT_FILE:
        raise at.error(f"{file!r} cannot be a file's name here", "use letters, digits, _, - and dots within")
    added = {file + ending: {"secret": name + part} for part, ending in _FILES.get(rule["generator"], (("", ""),))}
    for path, source in added.items():
        if own.secrets.get(path, source) != source:
            raise at.error(f"{path} is another secret's file already", f"write {{file: {name}}}")
    return replace(own, secrets={**own.secrets, **added})


def _with_variable(own: ServiceDefinition, variable: str, value: str, at: At) -> ServiceDefinition:
    if own.secret_variables.get(variable, value) != value:
        raise at.error(f"{variable} is another secret's variable already", "write {variable: NAME}")
    if own.environment.get(variable) is not None:
        raise at.error(f"the environment gives {variable} already", f"take {variable} out of environment")
    if own.given.get("reload") is not None:
        raise at.error(
            "a service reads its environment when it starts, so a reload brings it nothing",
            "take reload out, or deliver the secret as a file",
        )
    return replace(
        own,
        secret_variables={**own.secret_variables, variable: value},
        environment={**own.environment, variable: None},
    )


def _with_environment(own: ServiceDefinition) -> ServiceDefinition:
    if not own.secret_variables:
        return own
    lines = "".join(f"{name}=${{{value}:sh}}\n" for name, value in sorted(own.secret_variables.items()))
    return replace(own, secrets={**own.secrets, ENVIRONMENT_FILE: {"template": lines}})


def used_values(delivery: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of the values in a delivered file; ``$$`` in a template is a dollar sign."""
    if "secret" in delivery:
        return (delivery["secret"],)
    found = re.finditer(r"\$\$|\$\{([A-Za-z0-9_.-]+)(?::[a-z]+)?\}", delivery["template"])
    return tuple(sorted({match[1] for match in found if match[1]}))


def check_use(service: str, own: ServiceDefinition, rules: Mapping[str, Mapping[str, Any]], at: At) -> dict[str, str]:
    """Return the secrets that a service's files hold, with the kinds of their rotation.

    Raises BattenError for a value that no secret has, and for a CA's key.
    """
    known = values_of(rules)
    found = {}
    for file, delivery in own.secrets.items():
        values = used_values(delivery)
        for value in values:
            here = at.key(service).key("secrets").key(file)
            if value not in known:
                raise _unknown(value, rules, here)
            if rules[known[value]]["generator"] == "ca" and value == known[value]:
                raise here.error(f"the key of a CA, {value}, is for no service", f"write {value}_certificate")
            kind = str(rules[known[value]]["rotation"])
            if kind == "postgres_role" and value == known[value] and f"{value}.user" not in values:
                # In two files they would not change at one moment; written out, the name would be a role without login.
                raise here.error(
                    f"the password {value} is here without its login role, which changes with it",
                    f"write ${{{value}.user}} into the same file, or rotation: postgres under secrets.{value}",
                )
            found[known[value]] = kind
    return dict(sorted(found.items()))


def certificates(own: ServiceDefinition, rules: Mapping[str, Mapping[str, Any]]) -> dict[str, str | None]:
    """Return the files ``X.crt`` of a service that has ``X.key`` too, with the first name of those made here."""
    found = {}
    for file, source in own.secrets.items():
        stem, dot, ending = file.rpartition(".")
        if dot and ending == "crt" and f"{stem}.key" in own.secrets:
            rule = rules.get(str(source.get("secret", "")).removesuffix("_certificate"), {})
            found[file] = next(iter(rule.get("names", ())), None)
    return dict(sorted(found.items()))


def _unknown(value: str, rules: Mapping[str, Mapping[str, Any]], at: At) -> Exception:
    name, dot, _ = value.partition(".")
    if dot and name in rules:
        return at.error(
            f"{name} has no {value}: that is for a role which owns a database, or for rotation: redis",
            f"write ${{{name}}}",
        )
    return at.error(f"there is no secret {value!r}", f"add {value}: {{generator: alnum, length: 32}} under secrets")


def needed(
    rules: Mapping[str, Mapping[str, Any]], used: Collection[str], postgres: Mapping[str, Any] | None
) -> dict[str, dict[str, Any]]:
    """Return the rules that a stack needs: all but those of values that a person would have to give and nobody uses.

    ``used`` are the secrets of the services that are planned. What can be made is made, so that turning a Compose
    profile off and on again finds the same values.
    """
    wanted = {*used, *_postgres_users(postgres or {})}
    return {name: dict(rule) for name, rule in rules.items() if rule["generator"] != "provided" or name in wanted}
