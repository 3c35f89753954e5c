/** Limits of an XML document, each with its reason. They hold before anything is built from it. */

/** A UBL document with its attachments becomes one payload, and payloads end at 4 MiB. */
export const MAX_UBL_BYTES = 4 * 1024 * 1024
/** UBL 2.1 itself nests less than 20 deep where EN 16931 looks; more is an attack on a stack. */
export const MAX_DEPTH = 64
/** A line needs about 25 elements: room for about 4,000 lines, which already fill 4 MiB. */
export const MAX_ELEMENTS = 120_000
/** UBL elements carry at most a handful of attributes; the root adds namespace declarations. */
export const MAX_ATTRIBUTES = 64
/** Codes, names and schema locations: nothing in UBL needs a longer attribute. In UTF-16 code units. */
export const MAX_ATTRIBUTE_LENGTH = 8 * 1024
/** Longest element or attribute name, prefix included. */
export const MAX_NAME_LENGTH = 256
/** Entries of `unmapped`, so that a hostile document cannot ask for a huge answer. */
export const MAX_UNMAPPED = 1000
