import { connect } from 'nats'

export const canary = connect
