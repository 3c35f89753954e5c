/**
 * The terms of a document as a schema, for the API description: built from the domain's own description of the model,
 * so that the two cannot differ. Reading itself is the domain's business, which reports all errors by rule.
 */
import { BILLING_KINDS, type BillingKind } from '@tallystick/invoice-domain/model'
import { DOCUMENT_SHAPE, type AnyGroup, type AnyShape } from '@tallystick/invoice-domain/shape'
import { z } from 'zod'

const leaves = {
  text: z.string(),
  code: z.string(),
  date: z.iso.date(),
  decimal: z
    .string()
    .regex(/^-?[0-9]+(\.[0-9]+)?$/)
    .describe('Decimal text, never a number'),
  base64: z.string().describe('base64, padded'),
}

function schemaOf(shape: AnyShape): z.ZodType {
  if (typeof shape === 'string') return leaves[shape]
  if ('list' in shape) return z.array(schemaOf(shape.list))
  return groupOf(shape)
}

function groupOf(group: AnyGroup): z.ZodObject {
  const required = new Set((group.required ?? []) as readonly string[])
  return z.strictObject(
    Object.fromEntries(
      Object.entries(group.fields).map(([name, shape]) => [name, required.has(name) ? schemaOf(shape) : schemaOf(shape).optional()]),
    ),
  )
}

/** EN 16931 terms, all optional: a draft may be incomplete. */
export const termsSchema = groupOf(DOCUMENT_SHAPE as AnyGroup)
  .extend({ kind: z.enum(BILLING_KINDS as [BillingKind, ...BillingKind[]]).optional() })
  .meta({ id: 'DocumentTerms', description: 'A document in the terms of EN 16931; unknown fields are refused' })
