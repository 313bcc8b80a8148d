"""Bills in words."""

from __future__ import annotations

from typing import Any

from pipeline.progress import duration

PARTS = {
    "load": "load the model",
    "decode": "wait for pictures",
    "generate": "generate",
    "gates": "judge texts",
    "write": "write",
    "other": "else",
}


def bill_lines(bill: dict[str, Any]) -> list[str]:
    """Return a bill as a few lines, beside its forecast where there is one."""
    shares = bill["shares"]
    parts = ", ".join(f"{shares[name]:.0%} {words}" for name, words in PARTS.items() if shares[name] >= 0.005)
    plural = "" if bill["devices"] == 1 else "s"
    money = "" if bill["cost"] is None else f", {bill['cost']:,.2f} {bill['currency']}"
    lines = [
        f"bill: {duration(bill['wall_seconds'])} on {bill['devices']} device{plural} "
        f"({bill['device_seconds'] / 3600:,.4g} device-hours{money}): {parts}",
        f"  {bill['rows_per_device_second']:,.2f} rows and {bill['tokens_per_device_second']:,.1f} tokens "
        f"per device-second, {bill['bytes'] / 1e6:,.2f} MB",
    ]
    if bill["forecast"] is not None:
        lines.append(_beside(bill, bill["forecast"]))
    return lines


def _beside(bill: dict[str, Any], forecast: dict[str, Any]) -> str:
    seconds, working = forecast["device_seconds"], forecast["working"]
    return (
        f"  forecast {seconds['estimate']:,.1f} device-seconds ({seconds['low']:,.1f} to "
        f"{seconds['high']:,.1f}) for these {forecast['generated']:,} texts, actual "
        f"{bill['device_seconds']:,.1f}: {_where(forecast)}; without the load {_where(working)}; bytes "
        f"{forecast['bytes_error_percent']:+.1f} %"
    )


def _where(part: dict[str, Any]) -> str:
    return f"{'inside' if part['inside'] else 'outside'}, {part['error_percent']:+.1f} %"


def bill_sum(total: dict[str, Any]) -> str:
    """Return the sum of a version's bills as one line."""
    runs = f"{total['runs']} run{'' if total['runs'] == 1 else 's'}"
    money = "" if total["cost"] is None else f", {total['cost']:,.2f} {total['currency']}"
    return (
        f"{runs}, {total['device_seconds'] / 3600:,.4g} device-hours{money}, "
        f"{total['rows_per_device_second']:,.2f} rows and {total['tokens_per_device_second']:,.1f} tokens "
        "per device-second"
    )


def gate_lines(gates: dict[str, dict[str, int]]) -> list[str]:
    """Return what the gates noticed and did, one line per flag."""
    lines = []
    for flag, counts in gates.items():
        did = [
            f"{counts[name]:,} {words}"
            for name, words in (
                ("regenerated", "generated again"),
                ("cured", "cured"),
                ("quarantined", "set aside"),
                ("kept", "in the table"),
            )
            if counts.get(name)
        ]
        lines.append(f"  flag {flag}: {counts['raised']:,} texts at first; {', '.join(did) or 'none left'}")
    return lines
