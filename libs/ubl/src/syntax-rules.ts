import type { Violation } from '@tallystick/invoice-domain/errors'
import type { BillingKind } from '@tallystick/invoice-domain/model'
import type { XmlElement } from './tree.js'
export function checkSyntax(_root: XmlElement, _kind: BillingKind): Violation[] { return [] }
