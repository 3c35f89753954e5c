-- What session-svc said last about the keys with a peer: lists and change events are made from it.

ALTER TABLE "peer"
    ADD COLUMN "key_state" TEXT,
    ADD COLUMN "pending_fingerprint" TEXT,
    ADD COLUMN "keys_checked_at" TIMESTAMPTZ(3),
    -- Of the identity before the present one: what was signed under it may still be on its way.
    ADD COLUMN "previous_certificate" BYTEA;
CREATE INDEX "peer_keys_due" ON "peer"("keys_checked_at" NULLS FIRST) WHERE "state" = 'active';
