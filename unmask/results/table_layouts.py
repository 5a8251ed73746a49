"""A `Table` laid out as HTML or Markdown, with everything in it escaped."""

from __future__ import annotations

from html import escape

from unmask.results.tables import NOT_MEASURED, Table


def table_to_html(table: Table, wordy: bool = False) -> str:
    """A table that scrolls sideways where it is too wide; `wordy` cells may wrap."""
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in table.columns)
    rows = []
    for number, (name, *cells) in enumerate(table.rows):
        names = [
            word
            for word, numbers in (("marked", table.marked), ("ruled", table.ruled))
            if number in numbers
        ]
        attribute = f' class="{" ".join(names)}"' if names else ""
        shown = "".join(map(cell_to_html, cells))
        rows.append(f'<tr{attribute}><th scope="row">{escape(name)}</th>{shown}</tr>')
    return (
        f'<div class="scroll"><table{" class=wordy" if wordy else ""}>'
        f"<caption><span>{escape(table.caption)}</span></caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def cell_to_html(text: str) -> str:
    """One cell; what was not measured is set apart from numbers."""
    return f'<td class="none">{text}</td>' if text == NOT_MEASURED else f"<td>{escape(text)}</td>"


def table_to_markdown(table: Table) -> str:
    """A pipe table under its caption; marked rows are bold."""
    lines = [
        f"**{table.caption}**",
        "",
        "| " + " | ".join(map(escape_markdown, table.columns)) + " |",
        "|" + "|".join(["---", *["---:"] * (len(table.columns) - 1)]) + "|",
    ]
    for number, row in enumerate(table.rows):
        cells = [escape_markdown(cell) for cell in row]
        if number in table.marked:
            cells = [f"**{cell}**" for cell in cells]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def escape_markdown(text: str) -> str:
    """Text from results with what Markdown would read as layout made harmless."""
    for sign in "\\|*_`<>[]":
        text = text.replace(sign, f"\\{sign}")
    return text.replace("\n", " ")
