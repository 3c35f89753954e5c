import { PrismaPg } from '@prisma/adapter-pg'

export const canary = PrismaPg
