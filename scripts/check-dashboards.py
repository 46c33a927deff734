#!/usr/bin/env python3
"""Reads every dashboard in grafana/dashboards/ with Grafana's own types, and says what they do not know.

Run it by scripts/check-dashboards.sh. A key that the types lose when a dashboard is read and written again is one that
Grafana would ignore; a value of another type, or that is none of an enumeration, is one that Grafana would take for its
default.

With --prometheus URL it also asks every query there, with variables put in as Grafana does it for "All", and says which
fail or have no data. Of modules, the dashboard Module is asked for one that serves HTTP.

Exit code 1 if there is anything to say.
"""

import argparse
import enum
import json
import math
import re
import sys
import time
import typing
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import dashboard, units

# The last version of this JSON's schema: later changes are left to each panel's plugin.
SCHEMA_VERSION = 42

# Where Prometheus keeps more in an annotation than all data sources have in common, and which keys.
OF_PROMETHEUS = {"step", "titleFormat", "textFormat", "tagKeys", "useValueForTime"}

UNITS = {value for name, value in vars(units).items() if isinstance(value, str) and not name.startswith("_")}


def rewritten(known):
    """What the types write of an object that they have read."""
    return json.loads(JSONEncoder(sort_keys=True).encode(known))


def lost(source, known, path):
    """Keys and values of `source` that `known`, the same after being read and written, does not have."""
    if isinstance(source, dict) and isinstance(known, dict):
        for key, value in source.items():
            if key in known:
                yield from lost(value, known[key], f"{path}.{key}")
            elif not (".annotations.list" in path and key in OF_PROMETHEUS):
                yield f"{path}.{key}: Grafana's types do not know this key"
    elif isinstance(source, list) and isinstance(known, list) and len(source) == len(known):
        for index, pair in enumerate(zip(source, known)):
            yield from lost(*pair, f"{path}[{index}]")
    elif source != known:
        yield f"{path}: {source!r} was read as {known!r}"


def fits(value, hint):
    """Whether `value`, if it is no object of the types themselves, is of the type `hint`."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint in (typing.Any, object) or hasattr(value, "to_json"):
        return True
    if hasattr(hint, "from_json") and isinstance(value, dict):
        # The types leave some objects as they are when they read them.
        return not any(lost(value, rewritten(hint.from_json(value)), ""))
    if origin is typing.Union:
        return any(fits(value, argument) for argument in arguments)
    if origin is typing.Literal:
        return value in arguments
    if origin is list:
        return isinstance(value, list) and all(fits(one, arguments[0]) for one in value)
    if origin is dict:
        return isinstance(value, dict) and all(fits(one, arguments[1]) for one in value.values())
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return value in [member.value for member in hint]
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def misfits(value, path):
    """Fields of the objects in `value` that are not of the type that they are declared with."""
    if isinstance(value, (list, dict)):
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from misfits(one, f"{path}[{key!r}]")
    elif hasattr(value, "to_json"):
        for name, hint in typing.get_type_hints(type(value)).items():
            field = getattr(value, name, None)
            if field is not None and not fits(field, hint):
                yield f"{path}.{name}: {field!r} is no {hint}"
            yield from misfits(field, f"{path}.{name}")


def unknown_units(source, path):
    """Units that Grafana has no format for."""
    if isinstance(source, dict):
        for key, value in source.items():
            if key == "unit" and value not in UNITS:
                yield f"{path}.unit: Grafana has no unit {value!r}"
            yield from unknown_units(value, f"{path}.{key}")
        if source.get("id") == "unit" and source.get("value") not in UNITS:
            yield f"{path}: Grafana has no unit {source.get('value')!r}"
    elif isinstance(source, list):
        for index, value in enumerate(source):
            yield from unknown_units(value, f"{path}[{index}]")


def problems(source):
    """Whatever Grafana's types do not know of a dashboard."""
    if source["schemaVersion"] != SCHEMA_VERSION:
        yield f"schemaVersion: {source['schemaVersion']}, expected {SCHEMA_VERSION}"
    read = dashboard.Dashboard.from_json(source)
    yield from lost(source, rewritten(read), "")
    yield from misfits(read, "")
    yield from unknown_units(source, "")


# How far back queries go, how dense, and what Grafana would put in for its own variables then.
WINDOW_SECONDS, STEP_SECONDS = 1800, 10
BUILT_IN = {"__interval": "10s", "__rate_interval": "1m", "__range": "30m"}

# `$name`, `${name}` and `${name:format}`. `$1` is a group of a regular expression, in `label_replace`.
VARIABLE = re.compile(r"\$(?:([A-Za-z_]\w*)|{([A-Za-z_]\w*)[^}]*})")

# Not everybody has these: what node-exporter tells, and the level of `t_interval`.
OPTIONAL = re.compile(r"\b(node_\w+|ebb_evaluator_confidence_level)\b")


def put_in(values, text):
    return VARIABLE.sub(lambda match: values[match[1] or match[2]], text)


class Prometheus:
    def __init__(self, url):
        self.api = url.rstrip("/") + "/api/v1/"

    def get(self, path, **parameters):
        try:
            with urllib.request.urlopen(f"{self.api}{path}?{urllib.parse.urlencode(parameters)}", timeout=60) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise ValueError(json.load(error)["error"]) from None

    def label_values(self, selector, label):
        return self.get(f"label/{label}/values", **{"match[]": selector})

    def samples(self, expr, instant):
        """Every number among the samples of the series that `expr` gives."""
        now = time.time()
        window = {"start": now - WINDOW_SECONDS, "end": now, "step": STEP_SECONDS}
        parameters = {"time": now} if instant else window
        series = self.get("query" if instant else "query_range", query=expr, **parameters)["result"]
        values = (float(value) for one in series for _, value in one.get("values") or [one["value"]])
        return [value for value in values if not math.isnan(value)]

    def lacks(self, expr):
        """Whether `expr` asks for a metric that need not be there, and is not."""
        return any(not self.get("query", query=f"count({name})")["result"] for name in OPTIONAL.findall(expr))


def variables(source, prometheus):
    """What the variables of a dashboard stand for."""
    values = dict(BUILT_IN)
    for variable in source["templating"]["list"]:
        if variable["type"] != "query":
            continue
        query = put_in(values, variable["query"]["query"])
        selector, label = re.fullmatch(r"label_values\((.+), (\w+)\)", query).groups()
        found = prometheus.label_values(selector, label)
        if not found and not OPTIONAL.search(query):
            raise ValueError(f"variable {variable['name']}: {query} has no values")
        if not variable["multi"]:
            serving = prometheus.label_values('wasm_module_info{kind="http"}', "module")
            values[variable["name"]] = next((value for value in found if value in serving), found[0])
        elif "allValue" in variable:
            values[variable["name"]] = variable["allValue"]
        else:
            escaped = (re.sub(r"[$^*{}\[\]'+?.()|\\]", lambda match: "\\\\" + match[0], value) for value in found)
            values[variable["name"]] = f"({'|'.join(escaped)})"
    return values


def without_data(source, prometheus):
    """The queries of a dashboard that fail or have no data. Annotations are marks: there need be none."""
    try:
        values = variables(source, prometheus)
    except ValueError as error:
        yield f": {error}"
        return
    panels = [panel for outer in source["panels"] for panel in [outer, *outer.get("panels", [])]]
    targets = [(panel["title"], target) for panel in panels for target in panel.get("targets", [])]
    queries = [(title, target["expr"], target["instant"], True) for title, target in targets]
    queries += [(mark["name"], mark["expr"], False, False) for mark in source["annotations"]["list"]]
    for title, expr, instant, needs_data in queries:
        expr = put_in(values, expr)
        try:
            if not prometheus.samples(expr, instant) and needs_data and not prometheus.lacks(expr):
                yield f": {title}: no data: {expr}"
        except ValueError as error:
            yield f": {title}: {error}: {expr}"


def main():
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--prometheus", metavar="URL", help="ask every query of the Prometheus there")
    url = arguments.parse_args().prometheus
    register_default_plugins()
    files = sorted((Path(__file__).resolve().parent.parent / "grafana" / "dashboards").glob("*.json"))
    dashboards = {file.name: json.loads(file.read_text()) for file in files}
    found = [name + problem for name, source in dashboards.items() for problem in problems(source)]
    if url:
        prometheus = Prometheus(url)
        try:
            found += [name + gap for name, source in dashboards.items() for gap in without_data(source, prometheus)]
        except OSError as error:
            found.append(f"{url}: {error}")
    known = f"{len(files)} dashboards: all of it is known to Grafana's types"
    print("\n".join(found) if found else known + (", every query has data" if url else ""))
    return 1 if found or not files else 0


if __name__ == "__main__":
    sys.exit(main())
