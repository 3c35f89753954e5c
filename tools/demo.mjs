#!/usr/bin/env node
import { onNode24 } from './process/node24.mjs'

if (onNode24()) await import('./demo/cli.ts')
