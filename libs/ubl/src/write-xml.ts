/** Elements to XML text: escaped so that reading gives back every character. */

export interface OutElement {
  readonly name: string
  readonly attributes: readonly (readonly [string, string])[]
  /** Either text or children */
  readonly text?: string
  readonly children: readonly OutElement[]
}

export function element(
  name: string,
  content: string | readonly OutElement[],
  attributes: readonly (readonly [string, string])[] = [],
): OutElement {
  return typeof content === 'string' ? { name, attributes, text: content, children: [] } : { name, attributes, children: content }
}

/** @returns a UTF-8 document with declaration, two spaces per level, ending in a line feed */
export function writeXml(root: OutElement): string {
  const lines: string[] = ['<?xml version="1.0" encoding="UTF-8"?>']
  write(root, '', lines)
  return `${lines.join('\n')}\n`
}

function write(out: OutElement, indent: string, lines: string[]): void {
  const attributes = out.attributes.map(([name, value]) => ` ${name}="${escapeAttribute(value)}"`).join('')
  if (out.children.length > 0) {
    lines.push(`${indent}<${out.name}${attributes}>`)
    for (const inner of out.children) write(inner, `${indent}  `, lines)
    lines.push(`${indent}</${out.name}>`)
  } else if (out.text === undefined || out.text === '') {
    lines.push(`${indent}<${out.name}${attributes}/>`)
  } else {
    lines.push(`${indent}<${out.name}${attributes}>${escapeText(out.text)}</${out.name}>`)
  }
}

/** A carriage return would be normalised away on reading, so it is written as a character reference. */
function escapeText(text: string): string {
  return text.replace(/[&<>\r]/g, (c) => (c === '&' ? '&amp;' : c === '<' ? '&lt;' : c === '>' ? '&gt;' : '&#13;'))
}

/** Literal tabs and line ends in attributes are read as spaces, so they are written as references too. */
function escapeAttribute(text: string): string {
  return text.replace(/[&<>"\t\n\r]/g, (c) => {
    switch (c) {
      case '&':
        return '&amp;'
      case '<':
        return '&lt;'
      case '>':
        return '&gt;'
      case '"':
        return '&quot;'
      default:
        return `&#${c.charCodeAt(0)};`
    }
  })
}
