"""The AWS Query protocol: form parameters in, XML out, both by the shapes of botocore's model."""

from __future__ import annotations

import datetime
import re
import urllib.parse
import uuid
from typing import Any
from xml.sax.saxutils import escape

from local_sagemaker.wire.errors import ApiError

#: Characters that XML 1.0 cannot hold, not even escaped.
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

#: Form parameters as a tree: `Dimensions.member.1.Name=v` is {"Dimensions": {"member": {"1": {"Name": "v"}}}}.
_Tree = dict[str, Any]


def fields(body: bytes) -> dict[str, str]:
    return dict(urllib.parse.parse_qsl(body.decode(errors="replace"), keep_blank_values=True))


def parse(form: dict[str, str], shape: Any) -> dict[str, Any]:
    """The request of the input `shape` in a form. Raises a MalformedQueryString for a form that cannot be one."""
    request = _value(_tree(form), shape, "") if shape is not None else {}
    assert isinstance(request, dict)
    return request


def _tree(form: dict[str, str]) -> _Tree:
    root: _Tree = {}
    for key, value in form.items():
        *path, last = key.split(".")
        node: Any = root
        for part in path:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise _malformed(key)
        if isinstance(node.get(last), dict):
            raise _malformed(key)
        node[last] = value
    return root


def _value(node: Any, shape: Any, path: str) -> Any:
    match shape.type_name:
        case "structure":
            tree = _branch(node, path)
            members = {name: (_wire_name(member, name), member) for name, member in shape.members.items()}
            return {
                name: _value(tree[wire], member, f"{path}.{wire}")
                for name, (wire, member) in members.items()
                if wire in tree
            }
        case "list":
            return [_value(item, shape.member, path) for item in _numbered(node, shape, shape.member, "member", path)]
        case "map":
            entries = [_branch(entry, path) for entry in _numbered(node, shape, shape, "entry", path)]
            key, value = _wire_name(shape.key, "key"), _wire_name(shape.value, "value")
            return {str(entry.get(key)): _value(entry.get(value, ""), shape.value, path) for entry in entries}
        case _:
            return _scalar(node, shape.type_name, path)


def _numbered(node: Any, shape: Any, named: Any, default: str, path: str) -> list[Any]:
    """The children 1, 2, … of a list or map; none when it was sent empty (`Dimensions=`)."""
    if node == "":
        return []
    tree = _branch(node, path)
    if not shape.serialization.get("flattened"):
        tree = _branch(tree.get(named.serialization.get("name", default), {}), path)
    try:
        return [tree[key] for key in sorted(tree, key=int)]
    except ValueError:
        raise _malformed(path) from None


def _scalar(node: Any, kind: str, path: str) -> Any:
    if not isinstance(node, str):
        raise _malformed(path)
    try:
        match kind:
            case "boolean":
                return {"true": True, "false": False}[node.lower()]
            case "integer" | "long":
                return int(node)
            case "float" | "double":
                return float(node)
            case _:
                return node  # a timestamp stays the text it was sent as
    except (ValueError, KeyError):
        raise ApiError("MalformedInput", f"'{node:.80}' at '{path.lstrip('.')}' is no {kind}") from None


def _branch(node: Any, path: str) -> _Tree:
    if not isinstance(node, dict):
        raise _malformed(path)
    return node


def _wire_name(shape: Any, default: str) -> str:
    return str(shape.serialization.get("name", default))


def _malformed(key: str) -> ApiError:
    return ApiError("MalformedQueryString", f"the parameter '{key.lstrip('.'):.80}' does not fit the others")


def answer(operation: Any, content: dict[str, Any], request_id: str) -> str:
    """The XML of a response; `operation` is botocore's OperationModel."""
    name = operation.name
    namespace = operation.service_model.metadata["xmlNamespace"]
    shape = operation.output_shape
    result = f"<{name}Result>{_members(content, shape)}</{name}Result>" if shape is not None else ""
    return (
        f'<{name}Response xmlns="{namespace}">{result}'
        f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{name}Response>"
    )


def error(code: str, message: str, *, sender: bool = True) -> str:
    kind = "Sender" if sender else "Receiver"
    return (
        f"<ErrorResponse><Error><Type>{kind}</Type>{code_and_message(code, message)}</Error>"
        f"<RequestId>{uuid.uuid4()}</RequestId></ErrorResponse>"
    )


def code_and_message(code: str, message: str) -> str:
    return f"<Code>{_text(code)}</Code><Message>{_text(message)}</Message>"


def _members(content: dict[str, Any], shape: Any) -> str:
    return "".join(
        _element(_wire_name(shape.members[name], name), value, shape.members[name])
        for name, value in content.items()
        if value is not None
    )


def _element(tag: str, value: Any, shape: Any) -> str:
    match shape.type_name:
        case "list":
            inner = _wire_name(shape.member, tag if shape.serialization.get("flattened") else "member")
            items = "".join(_element(inner, item, shape.member) for item in value)
            return items if shape.serialization.get("flattened") else f"<{tag}>{items}</{tag}>"
        case "structure":
            return f"<{tag}>{_members(value, shape)}</{tag}>"
        case "map":
            key, item = _wire_name(shape.key, "key"), _wire_name(shape.value, "value")
            entries = "".join(
                f"<entry>{_element(key, name, shape.key)}{_element(item, inner, shape.value)}</entry>"
                for name, inner in value.items()
            )
            return f"<{tag}>{entries}</{tag}>"
        case "boolean":
            return f"<{tag}>{str(value).lower()}</{tag}>"
        case "timestamp" if isinstance(value, int | float):
            moment = datetime.datetime.fromtimestamp(value, datetime.UTC)
            return f"<{tag}>{moment.isoformat(timespec='milliseconds').replace('+00:00', 'Z')}</{tag}>"
        case _:
            return f"<{tag}>{_text(str(value))}</{tag}>"


def _text(value: str) -> str:
    return escape(_NOT_XML.sub("\ufffd", value))
