"""A report as one self-contained file: text, tables and figures, in light and dark, with nothing to fetch."""

import base64
from dataclasses import dataclass
from html import escape
from io import BytesIO

from matplotlib.figure import Figure

from mm_graft.version import __version__

STYLE = """
:root { color-scheme: light dark; --ink: #1c2026; --soft: #5b6470; --ground: #fbfaf8; --line: #dcd9d2;
  --accent: #b4552d }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e6e1; --soft: #9aa2ad; --ground: #14171c; --line: #2d333c; --accent: #e69366 } }
* { box-sizing: border-box }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--ground); margin: 0 }
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem } h2 { font-size: 1.15rem; margin: 2.6rem 0 .4rem }
p { max-width: 44rem; margin: .3rem 0 .8rem } .soft, footer { color: var(--soft) }
figure { margin: 1rem 0; background: #fff; border: 1px solid var(--line); border-radius: 8px; padding: .5rem;
  overflow-x: auto } figure img { display: block; max-width: 100%; margin: 0 auto }
.scroll { overflow-x: auto } table { border-collapse: collapse; margin: .8rem 0; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .35rem 1.2rem .35rem 0; border-bottom: 1px solid var(--line) }
th { font-weight: 600; color: var(--soft) } td.number { text-align: right } .better { color: var(--accent) }
footer { margin-top: 3rem; font-size: .85rem } code { font-size: .9em; overflow-wrap: anywhere }
"""


@dataclass
class Section:
    """A heading and its content."""

    title: str
    text: str = ''
    table: list[list] | None = None  #: rows of cells, the first of them the header; numbers are set to the right
    figure: Figure | None = None  #: a picture, and what it shows for those who cannot see it
    alternative: str = ''


def render(title: str, subtitle: str, sections: list[Section], command: str = '') -> str:
    """The page's HTML; it ends with the command that made it."""
    body = '\n'.join(render_section(section) for section in sections)
    made = f'<p>Made by <code>{escape(command)}</code></p>' if command else ''
    return (f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{escape(title)}</title>'
            f'<style>{STYLE}</style></head><body><main><h1>{escape(title)}</h1><p class="soft">{escape(subtitle)}</p>\n'
            f'{body}\n<footer>{made}<p>mm_graft {__version__}</p></footer></main></body></html>\n')


def render_section(section: Section) -> str:
    """One section's HTML."""
    parts = [f'<h2>{escape(section.title)}</h2>']
    if section.text:
        parts.append(f'<p>{escape(section.text)}</p>')
    if section.table:
        parts.append(render_table(section.table))
    if section.figure is not None:
        parts.append(f'<figure><img alt="{escape(section.alternative or section.title)}" '
                     f'src="data:image/png;base64,{encode(section.figure)}"></figure>')
    return '<section>' + ''.join(parts) + '</section>'


def render_table(rows: list[list]) -> str:
    """A table whose first row is the header."""
    header = ''.join(f'<th scope="col">{escape(str(cell))}</th>' for cell in rows[0])
    lines = ''.join('<tr>' + ''.join(render_cell(cell) for cell in row) + '</tr>' for row in rows[1:])
    return f'<div class="scroll"><table><thead><tr>{header}</tr></thead><tbody>{lines}</tbody></table></div>'


def render_cell(cell: object) -> str:
    """Numbers with four digits, aligned right; everything else as text."""
    if isinstance(cell, float):
        return f'<td class="number">{cell:.4g}</td>'
    return f'<td{" class=number" if isinstance(cell, int) else ""}>{escape(str(cell))}</td>'


def encode(figure: Figure) -> str:
    """A figure as the base64 text of a PNG."""
    buffer = BytesIO()
    figure.savefig(buffer, format='png', dpi=110, facecolor='white')
    return base64.b64encode(buffer.getvalue()).decode()
