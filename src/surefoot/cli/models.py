"""`surefoot models`: the shipped models, and how large each is for a given input."""

from __future__ import annotations

from typing import Any

from surefoot.cli.flags import Switch
from surefoot.cli.tables import number, print_json, print_table
from surefoot.errors import ConfigError


def models(*, input_shape: str = "3,32,32", outputs: int = 10, json: Switch = False) -> int:
    """List the shipped models with their number of parameters.

    Your own: --model package.module:factory, a function of input_shape and outputs that returns an nn.Module.

    Args:
        input_shape: Shape of one example: 3,32,32 for a colour image, 4 for four numbers.
        outputs: Number of classes, or of values to predict.
        json: Print as JSON.
    """
    shape = parse_shape(input_shape)
    if outputs < 1:
        raise ConfigError(f"outputs = {outputs}", "a model has at least 1 output", "give the number of classes")
    from surefoot.models.build import SHIPPED

    listed = [
        {"model": name, "takes": it.takes, "parameters": None, "summary": it.summary} | _built(name, shape, outputs)
        for name, it in SHIPPED.items()
    ]
    if json:
        print_json({"input_shape": list(shape), "outputs": outputs, "models": listed})
        return 0
    print(f"for examples of shape {'x'.join(map(str, shape))} and {outputs} outputs")
    rows = [(entry["model"], entry["takes"], number(entry["parameters"], ","), entry["summary"]) for entry in listed]
    print_table(("model", "takes", "parameters", "what it is"), rows, left=("model", "takes", "what it is"))
    for entry in listed:
        if "reason" in entry:
            print(f"{entry['model']}: {entry['reason']}")
    return 0


def parse_shape(text: str) -> tuple[int, ...]:
    """Return the shape that a text such as "3,32,32" or "3x32x32" describes.

    Raises:
        ConfigError: it describes none.

    >>> parse_shape("3,32,32")
    (3, 32, 32)
    """
    words = text.replace("x", ",").split(",")
    if not all(word.strip().isascii() and word.strip().isdigit() and int(word) > 0 for word in words):
        raise ConfigError(
            f"input_shape = {text!r}",
            "a shape is whole numbers above 0 with commas between",
            "try --input-shape 3,32,32",
        )
    return tuple(int(word) for word in words)


def _built(name: str, shape: tuple[int, ...], outputs: int) -> dict[str, Any]:
    from surefoot.models.build import parameter_count

    try:
        return {"parameters": parameter_count(name, shape, outputs)}
    except ConfigError as error:
        return {"reason": str(error)}
